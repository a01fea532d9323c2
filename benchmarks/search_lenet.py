"""The real search: LeNet-300-100 on 10 000 MNIST images, against random search and Hyperband.

    python benchmarks/search_lenet.py --seeds 0 1 2 --slots 2

Each method may spend as many epochs as 48 whole trials take; each ends with three designs trained anew on
three new seeds, and a file confirmed on 30 000 training images that no trial has seen. Of 20 000
others, 10 000 are fitted, 5 000 steer a trial (cuts, step sizes) and 5 000 judge it. The plain network is trained once
per seed; the floor lies 0.3 points below what it reaches. The curves of all trials of the
searches that stop nothing are kept as a table for ``search_replay.py``. Widths are not varied: trials of one
seed share one plain network. The test set is taken away before anything begins.

Resumable per trial where its folders still lie, and per search anywhere: finished ones are in the results.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import digits_trials
import record
from cells import Cells
from search_ratios import interval

from epigram import config, recipes
from epigram.config.bookkeeping import split_bookkeeping
from epigram.data import Splits
from epigram.data.mnist import splits as mnist_splits
from epigram.pipeline import Recipe, train_recipe
from epigram.pipeline.source import code
from epigram.records import Floor
from epigram.runner import LocalExecutor, processor_slots
from epigram.search import Command, Driver, Real, Space, Study, StudySettings, margins, trial
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
CONFIRM = 3
"""Designs, and seeds for each, that are trained anew in the end."""
FITTED, CONTROL = 10_000, 10_000
"""Images that are fitted, and that steer or judge; all others confirm."""


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
    steers = slice(FITTED, FITTED + CONTROL)
    control = whole.fit.subset(steers, name="mnist/train/control")
    rest = whole.fit.subset(slice(steers.stop, None), name="mnist/train/rest")
    return Splits(whole.fit.subset(slice(0, FITTED)), control, rest, None)


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
    splits = recipe.load_data()
    judges, examples = len(splits.control) // 2, len(splits.validation)
    confirm = 1 if options.quick else CONFIRM
    margin = margins.confirmable_margin(judges=judges, examples=examples, files=confirm**2)
    aim = margins.aimed(floor, examples=examples, errors=2.0, judges=judges, margin=margin)
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
            allow_code_change=options.allow_code_change,
            settings=StudySettings(
                seed=seed,
                forecasts=method != "hyperband",
                margin=margin,
                confirm=confirm,
                confirm_seeds=confirm,
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
        winner = (confirmed or {}).get("run_id")
        passed = [one for one in (confirmed or {}).get("tested", ()) if one["run_id"] == winner]
        figures = {
            "method": method,
            "seed": seed,
            "floor": str(floor),
            "margin": margin,
            "aim": str(aim),
            "confirmed_bytes": passed[0]["size"] if passed else None,
            "confirmed_accuracy": 1 - passed[0]["error"] if passed else None,
            "sentence": None if confirmed is None else confirmed["sentence"],
            "verdicts": 0 if confirmed is None else confirmed.get("verdicts", 0),
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
    table = options.out if options.quick else record.RESULTS
    about = {
        "table": recipe.name,
        "space": SPACE.plain(),
        "floor": str(floor),
        "examples": judges,
        "warmup": int(recipe.settings.structure.kl_warmup_epochs),
    }
    keep_curves(table / "search_curves.jsonl", f"{method}/{seed}", rows, about)
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--wall-s", type=float, default=600.0, help="a trial's limit, seconds")
    parser.add_argument("--out", type=Path, default=record.ROOT / "runs" / "bench" / "search_lenet")
    parser.add_argument("--fresh", action="store_true", help="delete the studies first")
    parser.add_argument(
        "--allow-code-change",
        action="store_true",
        help="go on with searches that another version has begun; cells tell the last one's commit",
    )
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
    recipe = shortened(quick=options.quick)
    folder = options.out / "results" if options.quick else record.RESULTS
    cells = Cells(
        "search_lenet",
        about=about,
        settings={
            "trials": options.trials,
            "slots": options.slots,
            "space": SPACE.plain(),
            "recipe": split_bookkeeping(recipe.settings)[0],
            "confirm": CONFIRM,
            "splits": {"fit": FITTED, "steer and judge": CONTROL},
        },
        planned=[f"{method}/{seed}" for seed in options.seeds for method in options.methods],
        folder=folder,
        summarise=summary,
        fresh=options.fresh or options.quick,
    )
    for key in cells.asked:
        method, _, seed = key.partition("/")
        found = cells.measure(key, lambda m=method, s=seed: searched(m, int(s), options))  # type: ignore[misc]
        print(f"{key}: {found['confirmed_bytes']} bytes; {found['sentence']}", flush=True)
    print(f"{summary(cells.done)['ratios']}; written to {folder}")
    return 0


def summary(cells: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Bytes of the confirmed files, ours over theirs at the same seed; and how many were confirmed."""
    sizes = {key: cell["confirmed_bytes"] for key, cell in cells.items()}
    methods = dict.fromkeys(key.partition("/")[0] for key in cells)
    ratios = {}
    for method in methods:
        pairs = [
            math.log(sizes[f"gp/{seed}"] / size)
            for name, _, seed in (key.partition("/") for key in cells)
            if name == method != "gp" and (size := sizes[f"{name}/{seed}"])
            if sizes.get(f"gp/{seed}")
        ]
        if method != "gp":
            ratios[f"gp_to_{method}"] = interval(pairs)
    confirmed = {
        method: sum(size is not None for key, size in sizes.items() if key.startswith(f"{method}/"))
        for method in methods
    }
    return {"ratios": ratios, "confirmed": confirmed}


def keep_curves(
    path: Path, study: str, rows: list[dict[str, Any]], about: Mapping[str, Any]
) -> None:
    """Put a study's curves into the table, in the place of what it held of that study."""
    others = digits_trials.read_table(path)[1] if path.exists() else []
    kept = [row for row in others if row["study"] != study]
    digits_trials.write_table(path, [*kept, *rows], about)


if __name__ == "__main__":
    sys.exit(main())
