"""The real search: LeNet-300-100 on 10 000 MNIST images, against random search and Hyperband.

    python benchmarks/search_lenet.py --seeds 0 1 2 --slots 2

Each method may spend as many epochs as 48 whole trials take; each ends with three designs trained anew on
three new seeds, and a file confirmed on the 40 000 training images that nobody has fitted. The plain network is trained once
per seed; the floor lies 0.3 points below what it reaches. The curves of all trials of the
searches that stop nothing are kept as a table for ``search_replay.py``. Widths are not varied: trials of one
seed share one plain network. The test set is taken away before anything begins.

Resumable per trial: the same command goes on with the study that was killed.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import digits_trials
import record
from search_replay import interval

from epigram import config, recipes
from epigram.data import Splits
from epigram.data.mnist import splits as mnist_splits
from epigram.pipeline import Recipe, train_recipe
from epigram.pipeline.source import code
from epigram.records import Floor
from epigram.runner import LocalExecutor, processor_slots
from epigram.search import Command, Driver, Real, Space, Study, StudySettings, trial
from epigram.search.report import build

METHODS = {
    "gp": {"sampler": "gp", "stopping": "off"},
    "random": {"sampler": "random", "stopping": "off"},
    "hyperband": {"sampler": "random", "stopping": "hyperband"},
}
SPACE = Space(
    {
        "structure.kl_weight": Real(0.1, 10.0, log=True),
        "structure.learning_rate": Real(3e-4, 6e-3, log=True),
        "structure.scale_lr_factor": Real(3.0, 50.0, log=True),
        "prune.tolerance": Real(3e-4, 2e-2, log=True),
        "finetune.learning_rate": Real(3e-4, 1e-2, log=True),
        "teacher_share": Real(0.0, 0.9),
    }
)
BELOW = 0.003
"""The floor: so far below what the plain network reaches."""


def shortened(*, quick: bool) -> Recipe:
    """LeNet-300-100 on 10 000 images (quick: 500), with fewer epochs, and without the test set."""
    recipe = recipes.get("lenet-300-100/mnist")
    epochs = {"plain": 2, "structure": 3, "finetune": 1} if quick else {
        "plain": 12, "structure": 10, "finetune": 5
    }  # fmt: skip
    changes: dict[str, Any] = {f"{stage}.epochs": n for stage, n in epochs.items()}
    changes |= {f"{stage}.tensorboard": False for stage in epochs}
    changes |= {"structure.kl_warmup_epochs": 1.0 if quick else 2.0, "page": False}
    changes |= {} if quick else {"structure.batch_size": 256}
    changes |= {"quantize.trials": 8} if quick else {}
    settings = config.with_overrides(recipe.settings, changes)
    load = _few if quick else _ten_thousand
    return replace(recipe, name="lenet-300-100/mnist-10k", load_data=load, settings=settings)


def _ten_thousand() -> Splits:
    whole = mnist_splits()
    rest = whole.fit.subset(slice(10_000, None), name="mnist/train/rest")
    return Splits(whole.fit.subset(slice(0, 10_000)), whole.control, rest, None)


def _few() -> Splits:
    whole = mnist_splits()
    parts = (whole.fit, whole.control, whole.validation)
    fit, control, validation = (part.subset(slice(0, 500)) for part in parts)
    return Splits(fit, control, validation, None)


def plain_of(seed: int, out: Path, *, quick: bool) -> tuple[Path, Floor]:
    """The plain network of a seed, trained once, and the floor that goes with it."""
    recipe = shortened(quick=quick)
    searched = replace(recipe, load_data=_SearchHalf(recipe))
    folder = out / f"plain-{seed}"
    settings = config.with_overrides(searched.settings, {"seed": seed})
    result = train_recipe(searched, settings, folder, progress=None)
    accuracy = float(result["validation"]["accuracy"])
    return folder, Floor("accuracy", round(accuracy - (0.2 if quick else BELOW), 6))


class _SearchHalf:
    """The splits as trials see them."""

    def __init__(self, recipe: Recipe) -> None:
        self.load_data = recipe.load_data

    def __call__(self) -> Splits:
        return trial.parted(self.load_data, "search")


def searched(method: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One search; what it confirmed, and what it cost."""
    out = options.out / f"seed-{seed}"
    plain, floor = plain_of(seed, options.out, quick=options.quick)
    folder = out / method
    if options.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    recipe = shortened(quick=options.quick)
    confirming = len(recipe.load_data().validation)
    aim = trial.aimed(floor, examples=confirming, errors=2.0)
    epochs = recipe.settings.structure.epochs + recipe.settings.finetune.epochs
    command = (sys.executable, str(Path(__file__).resolve()), "--trial", "{folder}")
    quick = ("--quick",) if options.quick else ()
    began = time.monotonic()
    with (
        Study(
            folder,
            SPACE,
            floor=floor,
            base=recipe.settings,
            task=trial.task_of(recipe, plain=str(plain.resolve()), aim=str(aim)),
            code=code(),
            settings=StudySettings(
                seed=seed,
                forecasts=method != "hyperband",
                confirm=1 if options.quick else 3,
                confirm_seeds=1 if options.quick else 3,
                **METHODS[method],
            ),
        ) as study,
        LocalExecutor(str(folder.resolve()), slots=processor_slots(options.slots)) as executor,
    ):
        whole = method != "hyperband"
        Driver(
            study,
            executor,
            Command((*command, *quick), wall_s=options.wall_s),
            trials=options.trials if whole else 100 * options.trials,
            max_steps=None if whole else options.trials * epochs,
            say=lambda line: print(line, file=sys.stderr),
        ).run()
        confirmed = study.history.confirmed
        trials = study.history.search()
        passed = [one for one in (confirmed or {}).get("tested", ()) if one["passed"]]
        figures = {
            "method": method,
            "seed": seed,
            "floor": str(floor),
            "confirmed_bytes": passed[0]["size"] if passed else None,
            "confirmed_accuracy": 1 - passed[0]["error"] if passed else None,
            "sentence": None if confirmed is None else confirmed["sentence"],
            "best_of_search": None if study.best() is None else study.best().outcome.size,
            "trials": len(trials),
            "epochs": sum(max((p.step for p in t.curve()), default=0) for t in trials),
            "stopped": sum(t.outcome is not None and t.outcome.kind == "stopped" for t in trials),
            "trial_seconds": record.summary([t.outcome.seconds for t in trials if t.outcome]),
            "ask_seconds": record.summary([t.ask_seconds for t in trials]),
            "alarms": [str(alarm["sentence"]) for alarm in study.history.alarms],
            "seconds": round(time.monotonic() - began, 1),
        }
        rows = [
            {
                "values": dict(t.values),
                "seed": t.seed,
                "curve": [(p.metric, p.size) for p in t.curve()],
                "accuracy": t.outcome.metric,
                "size_bytes": t.outcome.size,
                "study": f"{method}/{seed}",
            }
            for t in trials
            if whole and t.finished and t.outcome is not None and len(t.curve()) == epochs
        ]
    build(folder)
    return figures | {"rows": rows}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--wall-s", type=float, default=600.0, help="a trial's limit, seconds")
    parser.add_argument("--out", type=Path, default=record.ROOT / "runs" / "bench" / "search_lenet")
    parser.add_argument("--fresh", action="store_true", help="delete the studies first")
    parser.add_argument("--quick", action="store_true", help="minutes; results go below --out")
    parser.add_argument("--trial", type=Path, help="run one trial: what the driver calls")
    options = parser.parse_args(argv)
    if options.trial is not None:
        asked = json.loads((options.trial / "config.json").read_text("utf-8"))
        plain = Path(asked["task"]["plain"])
        trial.run_trial(options.trial, shortened(quick=options.quick), from_folder=plain)
        return 0
    if options.quick:
        options.trials = min(options.trials, 3)
    about = record.origin(seeds=options.seeds)
    options.out.mkdir(parents=True, exist_ok=True)
    runs: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        for method in options.methods:
            runs.append(searched(method, seed, options))
            rows += runs[-1].pop("rows")
            print(written(runs, rows, about, options), flush=True)
    return 0


def written(
    runs: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    about: dict[str, Any],
    options: argparse.Namespace,
) -> str:
    """Write the table of curves and the result of the searches so far; what to say of them."""
    recipe = shortened(quick=options.quick)
    table = (
        options.out / "curves.jsonl" if options.quick else record.RESULTS / "search_curves.jsonl"
    )
    digits_trials.write_table(
        table,
        rows,
        {
            "table": recipe.name,
            "space": SPACE.plain(),
            "floor": runs[0]["floor"],
            "examples": 250 if options.quick else 2500,
            "warmup": int(recipe.settings.structure.kl_warmup_epochs),
        },
    )
    ratios = {}
    for method in sorted(set(options.methods) - {"gp"}):
        pairs = [
            math.log(ours["confirmed_bytes"] / theirs["confirmed_bytes"])
            for ours in runs
            for theirs in runs
            if ours["method"] == "gp"
            and theirs["method"] == method
            and ours["seed"] == theirs["seed"]
            and ours["confirmed_bytes"]
            and theirs["confirmed_bytes"]
        ]
        ratios[f"gp_to_{method}"] = interval(pairs)
    folder = options.out / "results" if options.quick else record.RESULTS
    figures = {"trials": options.trials, "slots": options.slots, "ratios": ratios, "runs": runs}
    path = record.write_result(
        "search_lenet", about, figures | {"curves": len(rows)}, folder=folder
    )
    last = runs[-1]
    return (
        f"{last['method']} {last['seed']}: {last['confirmed_bytes']} bytes; {last['sentence']}\n"
        f"{ratios}; {len(rows)} curves in {table}; written to {path}"
    )


if __name__ == "__main__":
    sys.exit(main())
