"""Plain against Bayesian over the same epochs, each with and without learning-rate decay: curves.

    python benchmarks/curves.py [--seeds 0 1 2] [--epochs 30] [--examples 10000]
    python benchmarks/curves.py --recipe allconv/cifar10-jpeg --examples 15000 --epochs 20

LeNet-300-100 on the first 10 000 images to be fitted, without augmentation: 27 weights an image. So few
images let the plain network fit all of them within the epochs shown, which makes overfitting plain to
see, and make the KL five times as heavy an image as 50 000 would, which does the same for underfitting.
All networks have the learning rate of the recipe's plain stage; the Bayesian ones minimise the ELBO
itself (KL weight 1) and lose no units. They start from the plain network's random weights, or from the
weights it ended with (with decay): those have seen twice as many epochs in all. Accuracy and NLL are
those of the network in eval(), the posterior mean, on the images it is fitted to and on the validation
split. The test set is not there at all. Writes curves.json and curves.png; for another recipe
curves-<network>.json and .png, where the pretrained start and a KL weight of 0.1 get one seed each.

Every curve is written as soon as it is finished; the same command again draws the missing ones. Of the
Bayesian ones the removability of every unit after every epoch is kept too: since nothing is removed, it says
which units ``recovery.py``'s rule would have removed wrongly. ``bayesian-shrinking``, for other recipes, is
``bayesian-pretrained`` that does lose units: what that does to accuracy, and what it saves. Processor time
is that of training alone, without the evaluations that draw the curves.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import curves_picture
import record
import recovery
from preparing import (
    add_fresh,
    claimed,
    common_flags,
    first,
    guarded,
    prepare,
    start_fresh,
    without_test,
)
from safetensors.torch import load_file, save
from torch import nn

from epigram import atomic, recipes
from epigram.config import differences, to_dict
from epigram.convert import PosteriorSettings, bayesianize
from epigram.data import Splits
from epigram.pipeline import CompressSettings, Recipe
from epigram.pipeline.job import Job
from epigram.pipeline.stages import StructureLearner
from epigram.prune import PruneSettings, Shrinker
from epigram.train import (
    BayesianLearner,
    EpochEnd,
    PlainLearner,
    TrainSettings,
    read_metrics,
    slice_optimizer_state_,
)

RECIPE = "lenet-300-100/mnist"
QUICK_EPOCHS = 2
STAGE = "curve"
JUDGED = 5_000
WEIGHTS = "weights.safetensors"
NETWORKS = ("plain", "bayesian-random", "bayesian-pretrained")
LOW_KL = "bayesian-low-kl"
SHRINKING = "bayesian-shrinking"
ONE_SEED = (NETWORKS[2], SHRINKING, LOW_KL)
LOW_KL_WEIGHT = 0.1
SCHEDULES: Mapping[str, Literal["cosine", "constant"]] = {"decay": "cosine", "constant": "constant"}
TEACHER = "plain-decay"
FROM_PLAIN = (NETWORKS[2], SHRINKING)
CPU = "cpu.json"


def main() -> int:
    """Train what is missing, write, draw."""
    flags = common_flags(__doc__ or "", out="runs/bench-curves", seeds=(0, 1, 2))
    add_fresh(flags)
    flags.add_argument("--recipe", default=RECIPE, choices=recipes.names())
    flags.add_argument("--epochs", type=int, default=30)
    flags.add_argument("--examples", type=int, default=10_000)
    flags.add_argument("--amp", choices=("none", "bf16"), default="none", help="of every curve")
    arguments = flags.parse_args()
    if arguments.quick:
        arguments.epochs = min(arguments.epochs, QUICK_EPOCHS)
        arguments.examples = 500
    folders = prepare(arguments)
    network = arguments.recipe.partition("/")[0]
    called = "curves" if arguments.recipe == RECIPE else f"curves-{network}"
    about = record.origin(seeds=arguments.seeds)
    recipe = small_recipe(recipes.get(arguments.recipe), arguments.examples)
    shared = shared_settings(recipe, arguments)
    known = {} if arguments.fresh else finished(folders.results / f"{called}.json", shared)
    curves: dict[str, list[dict[str, Any]]] = known
    plan = [
        (seed, name)
        for seed in arguments.seeds
        for name in cells(arguments.recipe, first_seed=seed == arguments.seeds[0])
    ]
    for seed, name in plan:
        if not any(curve["seed"] == seed for curve in curves.get(name, [])):
            folder = folders.runs / called / f"seed-{seed}" / name
            if name.startswith(FROM_PLAIN) and not weights_of_teacher(folder).exists():
                one(recipe, TEACHER, seed, folder.with_name(TEACHER), arguments)
            curves.setdefault(name, []).append(one(recipe, name, seed, folder, arguments))
        missing = [
            f"{name}, seed {seed}"
            for seed, name in plan
            if not any(curve["seed"] == seed for curve in curves.get(name, []))
        ]
        figures = {
            **shared,
            "missing": missing,
            "what_differs_from_plain_decay": what_differs(recipe, curves, arguments),
            "curves": {name: {"seeds": runs, "last": last(runs)} for name, runs in curves.items()},
        }
        record.write_result(called, about, figures, folder=folders.results)
        atomic.write_bytes(folders.results / f"{called}.png", curves_picture.draw(curves))
    print(table(figures["curves"]))
    return 0


def shared_settings(recipe: Recipe, arguments: argparse.Namespace) -> dict[str, Any]:
    """What all curves of a file have in common."""
    teacher = train_settings(recipe.settings, TEACHER, arguments)
    return {
        "recipe": arguments.recipe,
        "epochs": arguments.epochs,
        "examples": arguments.examples,
        "settings_of_plain_decay": to_dict(teacher),
    }


def what_differs(
    recipe: Recipe, curves: Mapping[str, Any], arguments: argparse.Namespace
) -> dict[str, Any]:
    """Per curve, the settings in which it differs from the plain one with decay."""
    base = to_dict(train_settings(recipe.settings, TEACHER, arguments))
    there = {name: to_dict(train_settings(recipe.settings, name, arguments)) for name in curves}
    return {
        name: {key: now for key, (_, now) in differences(base, settings).items()}
        for name, settings in there.items()
    }


def finished(path: Path, shared: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The curves that an earlier call left, if they share these settings."""
    if not path.exists():
        return {}
    found = json.loads(path.read_text("utf-8"))
    wanted = json.loads(json.dumps(shared))
    if any(found.get(key) != value for key, value in wanted.items()):
        return {}
    return {name: list(curve["seeds"]) for name, curve in found["curves"].items()}


def cells(recipe: str, *, first_seed: bool) -> list[str]:
    """The curves of one seed; the plain network comes before those that start from it."""
    networks = list(NETWORKS)
    if recipe != RECIPE:
        networks = [*NETWORKS[:2], *(ONE_SEED if first_seed else ())]
    found = [f"{network}-{schedule}" for network in networks for schedule in SCHEDULES]
    one_schedule = () if recipe == RECIPE else ONE_SEED
    return [name for name in found if not (name.startswith(one_schedule) and "constant" in name)]


def small_recipe(recipe: Recipe, examples: int) -> Recipe:
    """Fewer images to fit, no augmentation, no test set; a posterior and a way to train it that all recipes share here."""
    load = without_test(recipe).load_data
    warmup = 4.0 if recipe.name == RECIPE else 5.0
    structure = replace(recipe.settings.structure, kl_warmup_epochs=warmup, scale_lr_factor=10.0)
    settings = replace(
        recipe.settings,
        posterior=PosteriorSettings(),
        prune=PruneSettings(),
        structure=structure,
    )

    def few() -> Splits:
        splits = load()
        return replace(splits, fit=first(splits.fit, examples))

    return replace(recipe, load_data=few, augment=None, settings=settings)


def train_settings(
    settings: CompressSettings, name: str, arguments: argparse.Namespace
) -> TrainSettings:
    """What a curve is trained with: the recipe's settings, and what all curves share."""
    network, _, schedule = name.rpartition("-")
    kl_weight = LOW_KL_WEIGHT if network == LOW_KL else 1.0
    stage = settings.structure
    stage = settings.plain if network == "plain" else replace(stage, kl_weight=kl_weight)
    return replace(
        stage,
        epochs=arguments.epochs,
        amp=arguments.amp,
        control_every_epochs=max(1, arguments.epochs),
        learning_rate=settings.plain.learning_rate,
        schedule=SCHEDULES[schedule],
        final_factor=0.0,
    )


def one(
    recipe: Recipe, name: str, seed: int, folder: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """One curve, from disk if it is there."""
    if arguments.fresh:
        start_fresh(folder)
    train = train_settings(recipe.settings, name, arguments)
    settings = replace(recipe.settings, seed=seed, plain=train, structure=train)
    with claimed(recipe, settings, folder, curve=name) as job:
        if not (folder / "curve.json").exists():
            atomic.write_json(folder / "curve.json", trained(job, name, train))
    curve: dict[str, Any] = json.loads((folder / "curve.json").read_text("utf-8"))
    return curve


def trained(job: Job, name: str, settings: TrainSettings) -> dict[str, Any]:
    """Train a network and say what it was worth before and after every epoch."""
    plain = job.build()
    if name.startswith(FROM_PLAIN):
        plain.load_state_dict(load_file(weights_of_teacher(job.folder)))
    learner: PlainLearner | BayesianLearner
    twin = None
    shrinker = Shrinker(job.settings.posterior.prior, job.settings.prune)
    shrinking = name.startswith(SHRINKING)
    if name.startswith("plain"):
        learner = PlainLearner(plain)
    else:
        twin = bayesianize(plain, job.example, settings=job.settings.posterior)
        learner = BayesianLearner(twin, len(job.splits.fit))
        if shrinking:
            learner = StructureLearner(twin, shrinker, job)  # whose checkpoints hold the counts
    module = learner.module
    watch, clock = recovery.Watch(), Clock(job.folder)

    def on_epoch(end: EpochEnd) -> Mapping[str, Any]:
        if twin is not None and shrinking:
            for cut in shrinker.step(twin):
                slice_optimizer_state_(end.optimizer, cut.parameter, cut.axis, cut.index)
        elif twin is not None:
            watch.look(job.folder, twin, end.epoch)
        clock.stop(end.epoch)
        found = worth(job, module)
        clock.start()
        return found

    learner.on_epoch = on_epoch
    start = worth(job, module)
    clock.start()
    job.fit(learner, settings, STAGE)
    tensors = {key: t.detach().contiguous() for key, t in module.cpu().state_dict().items()}
    atomic.write_bytes(job.folder / WEIGHTS, save(tensors))
    lines = read_metrics(job.folder / "metrics.jsonl", stage=STAGE)
    curve: dict[str, Any] = {"seed": job.settings.seed, **record.code_version()}
    for part in ("fitted", "validation"):
        for quantity in ("accuracy", "nll"):
            points = [start[part], *(line[part] for line in lines)]
            curve[f"{part}_{quantity}"] = [round(point[quantity], 6) for point in points]
    curve["kl_nats"] = [line["train"].get("kl_nats") for line in lines]
    curve["learning_rate"] = [line["learning_rate"] for line in lines]
    curve["cpu_seconds"] = clock.read()
    curve["effective_parameters"] = [line.get("effective_parameters") for line in lines]
    curve["units"] = [sum(line["units"].values()) if "units" in line else None for line in lines]
    if twin is not None and not shrinking:
        curve["recovery"] = recovery.judged(
            watch.trajectories(job.folder), job.settings.posterior.prior
        )
    curve["seconds"] = round(sum(line["seconds"] for line in lines), 2)
    return curve


class Clock:
    """Processor seconds of every epoch's training; None for one that a restart has cut in two."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / CPU
        self.begun: float | None = None
        # the first epoch of a session may have been begun in another one
        self.whole = not (folder / "checkpoints").exists()

    def start(self) -> None:
        """Training goes on."""
        self.begun = time.process_time()

    def stop(self, epoch: int) -> None:
        """An epoch is over."""
        assert self.begun is not None
        seconds = round(time.process_time() - self.begun, 3)
        before = self.read()[: epoch - 1]
        before += [None] * (epoch - 1 - len(before))
        atomic.write_json(self.path, [*before, seconds if self.whole else None])
        self.whole = True

    def read(self) -> list[float | None]:
        """What is known of the epochs so far."""
        return json.loads(self.path.read_text("utf-8")) if self.path.exists() else []


def weights_of_teacher(folder: Path) -> Path:
    """Where the plain network of a curve's seed left its weights."""
    return folder.with_name(TEACHER) / WEIGHTS


def worth(job: Job, module: nn.Module) -> dict[str, dict[str, float]]:
    """Accuracy and NLL on (the first 5 000 of) the fitted images and on the validation split."""
    found = {}
    fitted = first(job.splits.fit, JUDGED)
    for name, part in (("fitted", fitted), ("validation", job.splits.validation)):
        figures = job.evaluate(module, part)
        found[name] = {"accuracy": figures.accuracy, "nll": figures.nll}
    return found


def last(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The spread over the seeds after the last epoch, and of the least validation NLL on the way."""
    keys = ("fitted_accuracy", "validation_accuracy", "fitted_nll", "validation_nll")
    found: dict[str, Any] = {key: record.summary([run[key][-1] for run in runs]) for key in keys}
    found["least_validation_nll"] = record.summary([min(run["validation_nll"]) for run in runs])
    return found


def table(curves: Mapping[str, Any]) -> str:
    """Medians after the last epoch."""
    head = (
        f"{'':<30}{'accuracy, fitted':>18}{'validation':>12}{'NLL, fitted':>14}{'validation':>12}"
        f"{'least of it':>13}"
    )
    lines = [head]
    for name, curve in curves.items():
        v = {key: spread["median"] for key, spread in curve["last"].items()}
        lines.append(
            f"{name:<30}{100 * v['fitted_accuracy']:>16.2f} %{100 * v['validation_accuracy']:>10.2f} %"
            f"{v['fitted_nll']:>14.4f}{v['validation_nll']:>12.4f}{v['least_validation_nll']:>13.4f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(guarded(main))
