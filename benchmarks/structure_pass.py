"""What the structure pass costs beside plain training, and what shrinking meanwhile does to the error.

    python benchmarks/structure_pass.py [--variances each tied] [--test]
    python benchmarks/structure_pass.py --recipe allconv/cifar10-jpeg --amp bf16

For each recipe and seed:

* ``plain``: the plain network, for its own epochs; the others start from it.
* ``shrinking-VARIANCES``: the structure pass as the recipe has it, units leaving while it trains, then the cut and
  fine-tuning.
* ``not-shrinking-VARIANCES``: the same with ``prune.shrink=False``: all units leave at the cut.

Both are held to the same floor: the recipe's, or ``--max-drop`` below the plain network on validation where it has
none. The errors are those of the small network after fine-tuning, on validation; ``--test`` has every contestant that
this call measures read the test set too, once, at the end.

Times are those the stages noted in their metrics, over the plain network's mean epoch times as many epochs:
``ratio_whole``, the structure pass (evaluation, pictures, a trial encode and removal included); ``ratio_steps``, its
training steps alone; ``ratio_to_the_end``, structure pass, cut and fine-tuning against the epochs of both. The stages
ran one after the other, not in turns: keep the machine quiet.

Every contestant is a cell of results/structure_pass.json; the same command measures what is missing.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import record
from cells import Cells
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
from processor_time import noted, timed
from recovery import fewer
from structure_pass_figures import SHRINKING, WITHOUT, summarised, table, times
from torch import nn

from epigram import recipes
from epigram.config import to_dict
from epigram.convert import Twin
from epigram.evaluate import macs
from epigram.goal import Goal
from epigram.pipeline import Recipe
from epigram.pipeline.run import cut_stage
from epigram.pipeline.stages import finetune_stage, plain_stage, structure_stage
from epigram.train import read_metrics

NAME = "structure_pass"
RECIPES = ("lenet-5/mnist", "allconv/cifar10-jpeg")
PLAIN = "plain"
SETTINGS = (
    "plain",
    "posterior",
    "structure",
    "prune",
    "finetune",
    "steer",
    "teacher_share",
    "teacher_temperature",
)


def main() -> int:
    """Measure what is missing, write, print."""
    arguments = parser().parse_args()
    folders = prepare(arguments)
    found = {name: adjusted(name, arguments) for name in arguments.recipe}
    cells = Cells(
        NAME,
        about=record.origin(seeds=arguments.seeds),
        settings={name: described(recipe, arguments) for name, recipe in found.items()},
        planned=planned(arguments),
        folder=folders.results,
        summarise=summarised,
        fresh=arguments.fresh,
        apart=True,
    )
    for key in cells.asked:
        name, contestant, seed = parted(key)
        bench = Bench(found[name], int(seed), folders.runs / name / f"seed-{seed}", arguments)
        if arguments.fresh and key not in cells.done:
            start_fresh(bench.folder / contestant)
        cells.measure(key, lambda bench=bench, contestant=contestant: bench.measure(contestant))  # type: ignore[misc]
    cells.write()
    print(table(summarised(cells.done)["spread"]))
    return 0


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = common_flags(__doc__ or "", out="runs/bench-structure", seeds=(0, 1, 2))
    add_fresh(flags)
    flags.add_argument("--recipe", nargs="+", default=list(RECIPES), choices=recipes.names())
    flags.add_argument("--variances", nargs="+", default=["each"], choices=("each", "tied"))
    flags.add_argument("--test", action="store_true", help="read the test set, once a contestant")
    flags.add_argument("--max-drop", type=float, default=0.01, help="where a recipe has no floor")
    flags.add_argument("--examples", type=int, default=15_000, help="fitted to, of CIFAR-10")
    flags.add_argument("--epochs", type=int, default=20, help="of each stage, on CIFAR-10")
    flags.add_argument("--amp", choices=("none", "bf16"), default="none", help="on CIFAR-10")
    return flags


def adjusted(name: str, arguments: argparse.Namespace) -> Recipe:
    """A recipe without its test set; on CIFAR-10 with the epochs and images asked for."""
    recipe = without_test(recipes.get(name))
    if "/cifar10" in name:
        recipe = fewer(recipe, arguments.examples)
        asked = {"epochs": arguments.epochs, "amp": arguments.amp}
        stages = ("plain", "structure", "finetune")
        changed = {stage: replace(getattr(recipe.settings, stage), **asked) for stage in stages}
        recipe = replace(recipe, settings=replace(recipe.settings, **changed))
    return quick_recipe(recipe) if arguments.quick else recipe


def goal_of(recipe: Recipe, arguments: argparse.Namespace) -> Goal:
    """What both contestants are held to."""
    drop = None if recipe.floor else arguments.max_drop
    return Goal.of(recipe.floor, max_drop=drop, named=False)


def described(recipe: Recipe, arguments: argparse.Namespace) -> dict[str, Any]:
    """What a recipe's cells share."""
    return {
        "examples": len(recipe.load_data().fit),
        "goal": str(goal_of(recipe, arguments)),
        **{key: value for key, value in to_dict(recipe.settings).items() if key in SETTINGS},
    }


def planned(arguments: argparse.Namespace) -> list[str]:
    """All cells, a recipe and seed after the other."""
    ways = [f"{way}-{each}" for each in arguments.variances for way in (SHRINKING, WITHOUT)]
    return [
        f"{name}/{contestant}/seed-{seed}"
        for name in arguments.recipe
        for seed in arguments.seeds
        for contestant in (PLAIN, *ways)
    ]


def parted(key: str) -> tuple[str, str, str]:
    """Recipe, contestant and seed of a cell's key."""
    group, _, seed = key.partition("/seed-")
    name, _, contestant = group.rpartition("/")
    return name, contestant, seed


class Bench:
    """One recipe and seed.

    Args:
        recipe: network, data and settings.
        seed: of everything random.
        folder: holds a run folder per contestant; finished stages are read.
        asked: the flags.
    """

    def __init__(self, recipe: Recipe, seed: int, folder: Path, asked: argparse.Namespace) -> None:
        self.recipe = recipe
        self.settings = replace(recipe.settings, seed=seed)
        self.folder, self.asked = folder, asked
        self.goal = goal_of(recipe, asked)

    def measure(self, contestant: str) -> dict[str, Any]:
        """The figures of one cell."""
        with self.job(PLAIN, self.settings) as job:
            model = timed(job, PLAIN, lambda: plain_stage(job))
            lines = read_metrics(job.folder / "metrics.jsonl", stage="plain")
            seconds = round(sum(line["seconds"] for line in lines), 3)
            told: dict[str, Any] = {"epochs": {"plain": len(lines)}, "plain_seconds": seconds}
        if contestant != PLAIN:
            model, told = self.passed(contestant)
        worth = job.evaluate(model, job.splits.validation)
        figures = {
            "validation_error_percent": worth.error_percent,
            "validation_nll": worth.nll,
            "parameters": sum(p.numel() for p in model.parameters()),
            "macs": macs(model, job.example[:1]),
            **told,
        }
        if self.asked.test and not self.asked.quick:
            figures["test_error_percent"] = 100 * (1 - self.tested(model, contestant))
        return figures

    def passed(self, contestant: str) -> tuple[nn.Module, dict[str, Any]]:
        """The small network at the end, and what it cost."""
        way, _, variances = contestant.rpartition("-")
        settings = replace(
            self.settings,
            prune=replace(self.settings.prune, shrink=way == SHRINKING),
            posterior=replace(self.settings.posterior, variances=variances),
        )
        with self.job(contestant, settings, floor=str(self.goal)) as job:
            plain = plain_stage(job, from_folder=self.folder / PLAIN)
            job.floor = self.goal.floor
            job.resolve(self.goal, plain)
            job.compare_splits(plain)
            twin, _ = timed(job, "structure", lambda: structure_stage(job, plain))
            trained = units(twin)
            small = timed(job, "cut", lambda: cut_stage(job, twin)[1])
            before = job.evaluate(small, job.splits.validation)
            small = timed(job, "finetune", lambda: finetune_stage(job, small, twin, plain))
            cpu = noted(self.folder / PLAIN) | noted(job.folder)
            told = {
                "floor": str(job.floor),
                "error_before_finetuning_percent": before.error_percent,
                "units_before_the_cut": trained,
                "units": units(twin),
                **times(read_metrics(job.folder / "metrics.jsonl"), cpu),
            }
        return small, told

    def tested(self, model: nn.Module, contestant: str) -> float:
        """Accuracy on the test set; the reading is logged."""
        whole = recipes.get(self.recipe.name)
        return read_test(whole, model, contestant=f"{NAME} {contestant}", seed=self.settings.seed)

    def job(self, name: str, settings: Any, **more: Any) -> Any:
        """A claimed folder of that name."""
        drop_begun_by_other_code(self.folder / name)
        return claimed(self.recipe, settings, self.folder / name, **more)


def units(twin: Twin) -> dict[str, int]:
    """How many are left of each scale."""
    return {name: int(mask.sum()) for name, mask in twin.kept_masks().items()}


if __name__ == "__main__":
    sys.exit(guarded(main))
