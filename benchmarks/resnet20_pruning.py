"""ResNet-20 made half and a third as costly: this package against Torch-Pruning, at equal MACs.

    python benchmarks/resnet20_pruning.py [--seeds 0 1 2] [--examples 40000]
    python benchmarks/resnet20_pruning.py --examples 10000 --adapt 4 --structure 8 --finetune 4 --amp bf16

The pretrained network is adapted to the images first; all contestants start from the adapted one and are
brought to the same share of its MACs (the first point at or below it).

* ``epigram``: a twin is trained for the structure stage. After every epoch of its first ``--leaving`` part the
  units that are worth least for their MACs leave (``prune.keep_within``), down to a share that falls evenly to the
  one asked for (0: all before it begins). A few epochs are too short for log alpha to come to rest, so units are
  ordered by where it will (``prune.unit_worths``, of eight training batches).
* ``magnitude``, ``taylor``, ``bn-scale``: Torch-Pruning's group importance, global ranking, one per cent of the
  channels at a time; Taylor's gradients are taken anew before every step.

All are then fine-tuned for the same epochs on the same images, with the same optimiser and the adapted network as
teacher, which epigram's structure stage has too; step sizes (``--finetune-lr``, and ``--finetune-lr-ours`` for a
network that comes out of a structure stage) are chosen on control. ``-as-long``: the
Torch-Pruning contestants fine-tuned for structure and fine-tuning epochs together, since epigram's structure
stage is training too.

The pretrained weights have been fitted to all training images, those of control and validation too, which they
therefore know better than any others (by four points). So validation overstates what a contestant has lost
against the adapted network. ``--test`` reads the test set, once for each contestant, after everything has been
chosen; without it, it is not there at all.

Every contestant is a cell of results/resnet20_pruning.json; the same command measures what is missing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import record
import torch_pruning_contestants
from cells import Cells, spreads, with_test_drop
from preparing import (
    add_fresh,
    claimed,
    common_flags,
    drop_begun_by_other_code,
    guarded,
    prepare,
    quick_recipe,
    read_test,
    start_fresh,
    without_test,
)
from recovery import fewer
from safetensors.torch import load_file
from torch import Tensor, nn

from epigram import recipes
from epigram.config import to_dict
from epigram.convert import Twin, bayesianize
from epigram.data import batches
from epigram.evaluate import macs
from epigram.pipeline import Recipe
from epigram.pipeline.job import PLAIN, Job
from epigram.pipeline.stages import plain_stage
from epigram.pipeline.teaching import distilled
from epigram.prune import keep_within, removability_at_rest, unit_prices, unit_worths
from epigram.records import BoolArray
from epigram.train import BayesianLearner, EpochEnd, PlainLearner

RECIPE = "resnet20/cifar10-jpeg"
NAME = "resnet20_pruning"
OURS = "epigram"
THEIRS = torch_pruning_contestants.IMPORTANCES
AS_LONG = "-as-long"
FIGURES = (
    "points_below_adapted",
    "validation_accuracy",
    "accuracy_before_finetuning",
    "macs_share",
    "test_accuracy",
    "test_points_below_adapted",
)


def main() -> int:
    """Measure what is missing, write, print."""
    arguments = parser().parse_args()
    folders = prepare(arguments)
    recipe = adjusted(arguments)
    cells = Cells(
        NAME,
        about=record.origin(seeds=arguments.seeds),
        settings={
            "recipe": RECIPE,
            "examples": len(recipe.load_data().fit),
            **{stage: to_dict(getattr(recipe.settings, stage)) for stage in ("plain", "finetune")},
            "teacher_share": recipe.settings.teacher_share,
            "teacher_temperature": recipe.settings.teacher_temperature,
            "teacher_mixup": recipe.settings.teacher_mixup,
        },
        planned=planned(arguments),
        folder=folders.results,
        summarise=summarised,
        fresh=arguments.fresh,
    )
    for key in cells.asked:
        contestant, _, seed = key.partition("/seed-")
        folder = folders.runs / NAME / f"seed-{seed}"
        bench = Bench(recipe, int(seed), folder, arguments)
        if arguments.fresh:
            start_fresh(bench.folder / contestant)
        cells.measure(key, lambda bench=bench, name=contestant: bench.measure(name))  # type: ignore[misc]
    cells.write()
    print(table(summarised(cells.done)["spread"]))
    return 0


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = common_flags(__doc__ or "", out="runs/bench-resnet20", seeds=(0, 1, 2))
    add_fresh(flags)
    flags.add_argument("--test", action="store_true", help="read the test set, once a contestant")
    flags.add_argument("--examples", type=int, default=40_000, help="fitted to, the first so many")
    flags.add_argument("--shares", type=int, nargs="+", default=[50, 35], help="of the MACs, in %%")
    flags.add_argument("--adapt", type=int, default=8, help="epochs")
    flags.add_argument("--structure", type=int, default=20, help="epochs")
    flags.add_argument("--finetune", type=int, default=10, help="epochs")
    flags.add_argument("--leaving", type=float, default=0.6, help="of the structure epochs")
    flags.add_argument("--structure-optimizer", choices=("adam", "sgd"), default="adam")
    flags.add_argument("--structure-lr", type=float, help="default: the recipe's")
    flags.add_argument("--kl-weight", type=float, default=0.02)
    flags.add_argument("--noise", choices=("outputs", "weights"), default="weights")
    flags.add_argument("--finetune-lr", type=float, default=0.02)
    flags.add_argument("--finetune-lr-ours", type=float, help="after the structure stage")
    flags.add_argument("--teacher-share", type=float, default=0.9)
    flags.add_argument("--teacher-temperature", type=float, default=4.0)
    flags.add_argument("--teacher-mixup", type=float, default=0.0)
    flags.add_argument("--scale-lr-factor", type=float, default=30.0)
    flags.add_argument("--logvar-lr-factor", type=float, help="default: the recipe's")
    flags.add_argument("--scale-logvar", type=float, help="at the start; default: the recipe's")
    flags.add_argument("--weight-logvar", type=float, help="at the start; default: the recipe's")
    flags.add_argument("--contestants", nargs="+", choices=(OURS, *THEIRS), default=[OURS, *THEIRS])
    flags.add_argument("--amp", choices=("none", "bf16"), default="none")
    return flags


def adjusted(arguments: argparse.Namespace) -> Recipe:
    """The recipe with the epochs and images asked for."""
    recipe = fewer(without_test(recipes.get(RECIPE)), arguments.examples)
    if arguments.quick:
        return quick_recipe(recipe)
    found = recipe.settings
    amp = arguments.amp
    settings = replace(
        found,
        plain=replace(
            found.plain, epochs=arguments.adapt, amp=amp, control_every_epochs=arguments.adapt
        ),
        structure=replace(
            found.structure,
            epochs=arguments.structure,
            optimizer=arguments.structure_optimizer,
            learning_rate=arguments.structure_lr or found.structure.learning_rate,
            kl_weight=arguments.kl_weight,
            kl_warmup_epochs=arguments.structure / 4,
            scale_lr_factor=arguments.scale_lr_factor,
            logvar_lr_factor=arguments.logvar_lr_factor or found.structure.logvar_lr_factor,
            amp=amp,
            control_every_epochs=arguments.structure,
        ),
        finetune=replace(
            found.finetune,
            epochs=arguments.finetune,
            learning_rate=arguments.finetune_lr,
            lr_warmup_epochs=0.5,
            amp=amp,
        ),
        posterior=replace(
            found.posterior,
            convolution_noise=arguments.noise,
            scale_logvar_init=arguments.scale_logvar or found.posterior.scale_logvar_init,
            logvar_init=arguments.weight_logvar or found.posterior.logvar_init,
        ),
        teacher_share=arguments.teacher_share,
        teacher_temperature=arguments.teacher_temperature,
        teacher_mixup=arguments.teacher_mixup,
    )
    return replace(recipe, settings=settings)


def planned(arguments: argparse.Namespace) -> list[str]:
    """All cells, a seed after the other; what the comparison needs least comes last."""
    found = []
    theirs = [who for who in THEIRS if who in arguments.contestants]
    for seed in arguments.seeds:
        names = ["adapted"]
        for share in arguments.shares:
            names += [f"{who}-{share}" for who in (OURS, *THEIRS) if who in arguments.contestants]
        names += [f"{who}-{share}{AS_LONG}" for share in arguments.shares for who in theirs]
        found += [f"{name}/seed-{seed}" for name in names]
    return found


class Bench:
    """One seed: the adapted network, the twin, and the contestants made from them.

    Args:
        recipe: network, data and settings.
        seed: of everything random.
        folder: holds a run folder per stage; finished ones are read.
        asked: the flags; in which part of the structure epochs units leave, epigram's step size of
            fine-tuning, whether the test set is read for every contestant.
    """

    def __init__(self, recipe: Recipe, seed: int, folder: Path, asked: argparse.Namespace) -> None:
        self.recipe = recipe
        self.settings = replace(recipe.settings, seed=seed)
        self.folder = folder
        self.leaving, self.test = asked.leaving, asked.test
        self.our_step_size = asked.finetune_lr_ours or asked.finetune_lr

    def measure(self, contestant: str) -> dict[str, Any]:
        """The figures of one cell."""
        figures, model = self.measured(contestant)
        if self.test:
            figures["test_accuracy"] = read_test(
                recipes.get(RECIPE), model, contestant=contestant, seed=self.settings.seed
            )
        return figures

    def measured(self, contestant: str) -> tuple[dict[str, Any], nn.Module]:
        """What validation says, and the network."""
        if contestant == "adapted":
            model = self.adapted()
            job = Job(self.recipe, self.settings, self.folder, None, None, None)
            worth = job.evaluate(model, job.splits.validation)
            cost = macs(model, job.example[:1])
            return {"validation_accuracy": worth.accuracy, "nll": worth.nll, "macs": cost}, model
        name = contestant.removesuffix(AS_LONG)
        who, _, share = name.rpartition("-")
        settings = self.settings
        if name != contestant:
            longer = settings.structure.epochs + settings.finetune.epochs
            settings = replace(settings, finetune=replace(settings.finetune, epochs=longer))
        if who == OURS:
            finetune = replace(settings.finetune, learning_rate=self.our_step_size)
            settings = replace(settings, finetune=finetune)
        adapted = self.adapted()
        with self.job(contestant, settings) as job:
            target = int(share) / 100
            if who == OURS:
                small = self.twin(adapted, job, target).plain()
                trained = {
                    "structure": to_dict(settings.structure),
                    "posterior": to_dict(settings.posterior),
                    "leaving": self.leaving,
                    "finetune_learning_rate": self.our_step_size,
                }
            else:
                whole = macs(adapted, job.example[:1])
                small = torch_pruning_contestants.pruned(
                    adapted, who, target * whole, few_batches(job)
                )
                trained = {}
            return {**self.finetuned(job, small, adapted), **trained}, small

    def job(self, name: str, settings: Any = None) -> Any:
        """A claimed folder of that name."""
        drop_begun_by_other_code(self.folder / name)
        return claimed(self.recipe, settings or self.settings, self.folder / name)

    def adapted(self) -> nn.Module:
        """The network all start from; its finished weights are read without claiming their folder."""
        weights = self.folder / "adapted" / PLAIN
        if weights.is_file():
            model = self.recipe.build()
            model.load_state_dict(load_file(weights))
            return model.eval()
        with self.job("adapted") as job:
            return plain_stage(job)

    def twin(self, adapted: nn.Module, job: Job, share: float) -> Twin:
        """The twin of the adapted network after the structure stage, its units gone."""
        twin = bayesianize(adapted, job.example, settings=self.settings.posterior)
        whole = macs(adapted, job.example[:1])

        def cost(model: nn.Module) -> float:
            return macs(model, job.example[:1]) / whole

        def kept_within(budget: float) -> dict[str, BoolArray]:
            n, weight = len(job.splits.fit), self.settings.structure.kl_weight
            worths = unit_worths(twin, few_batches(job))
            at_rest = {k: removability_at_rest(n / weight * w) for k, w in worths.items()}
            return keep_within(
                twin, cost, budget, prices=unit_prices(twin, cost), removability=at_rest
            )

        def on_epoch(end: EpochEnd) -> dict[str, float]:
            last = max(1, min(end.epochs - 1, round(self.leaving * end.epochs)))
            if self.leaving and end.epoch <= last:
                keep = kept_within(1.0 - (1.0 - share) * end.epoch / last)
                learner.shrink_(keep, optimizer=end.optimizer)
            return {"macs_share": cost(twin.plain())}

        if not self.leaving:
            twin.shrink_(kept_within(share))
        learner = BayesianLearner(
            twin,
            len(job.splits.fit),
            distillation=distilled(job, adapted, "structure"),
            on_epoch=on_epoch,
        )
        job.fit(learner, self.settings.structure, "structure")
        return twin.eval()

    def finetuned(self, job: Job, small: nn.Module, adapted: nn.Module) -> dict[str, Any]:
        """Fine-tune, and say what the network is worth and costs."""
        validation = job.splits.validation
        small = small.train()
        before = job.evaluate(small, validation).accuracy
        learner = PlainLearner(small, distillation=distilled(job, adapted, "finetune"))
        result = job.fit(learner, job.settings.finetune, "finetune")
        after = job.evaluate(small, validation)
        start = job.evaluate(adapted, validation).accuracy
        convolutions = [m for m in small.modules() if isinstance(m, nn.Conv2d)]
        return {
            "validation_accuracy": after.accuracy,
            "nll": after.nll,
            "accuracy_before_finetuning": before,
            "points_below_adapted": round(100 * (start - after.accuracy), 3),
            "macs_share": macs(small, job.example[:1]) / macs(adapted, job.example[:1]),
            "parameters": sum(p.numel() for p in small.parameters()),
            "channels": [convolution.out_channels for convolution in convolutions],
            "finetuning_seconds": round(result.seconds, 2),
        }


def few_batches(job: Job) -> list[tuple[Tensor, Tensor]]:
    """Eight training batches, without augmentation."""
    stream = batches(
        job.splits.fit,
        batch_size=128,
        seed=job.settings.seed,
        epoch=0,
        preprocess=job.recipe.preprocess,
    )
    return [batch for batch, _ in zip(stream, range(8), strict=False)]


def summarised(cells: Mapping[str, Any]) -> dict[str, Any]:
    """The spread over the seeds, and how far epigram is ahead of each of the others at each share."""
    cells = with_test_drop(cells, "adapted")
    spread = spreads(cells, FIGURES, name=lambda key: key.partition("/")[0])
    return {
        "spread": spread,
        "points_ahead_of": ahead(cells, "validation_accuracy"),
        "test_points_ahead_of": ahead(cells, "test_accuracy"),
    }


def ahead(cells: Mapping[str, Any], figure: str) -> dict[str, dict[str, float]]:
    """By share and seed, how many points epigram is ahead of each of the others, where both have the figure."""
    found: dict[str, dict[str, float]] = {}
    for key, cell in cells.items():
        name, _, seed = key.partition("/")
        who, _, share = name.rpartition("-")
        if who != OURS or figure not in cell:
            continue
        others = {
            f"{them}{suffix}": cells.get(f"{them}-{share}{suffix}/{seed}", {}).get(figure)
            for suffix in ("", AS_LONG)
            for them in THEIRS
        }
        found[f"{share}/{seed}"] = {
            them: round(100 * (cell[figure] - accuracy), 3)
            for them, accuracy in others.items()
            if accuracy is not None
        }
    return {key: others for key, others in found.items() if others}


def table(spread: Mapping[str, Any]) -> str:
    """A line per contestant."""
    lines = [f"{'':<26}{'MACs %':>9}{'validation %':>14}{'before':>9}{'points below adapted':>30}"]
    for name, found in spread.items():
        accuracy = 100 * found["validation_accuracy"]["median"]
        if name == "adapted":
            lines.append(f"{name:<26}{100:>9}{accuracy:>14.2f}")
            continue
        below, share = found["points_below_adapted"], 100 * found["macs_share"]["median"]
        before = 100 * found["accuracy_before_finetuning"]["median"]
        reach = f"{below['median']:.2f} ({below['min']:.2f} to {below['max']:.2f})"
        lines.append(f"{name:<26}{share:>9.1f}{accuracy:>14.2f}{before:>9.2f}{reach:>30}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(guarded(main))
