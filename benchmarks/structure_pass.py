"""The whole structure pass against training the plain network for as many epochs.

    python benchmarks/structure_pass.py [--recipe ...] [--seeds 0 1 2] [--lenets runs/bench]

Times are those the runs of lenets.py noted in their metrics; where there is no such run, the two stages
are trained here, without the test set. The plain network's time is its mean epoch times the number of
epochs of the structure pass. Two ratios: of whole epochs (evaluation, pictures, a trial encode, removal
of units) and of steps alone. The stages ran one after the other, not in turns: keep the machine quiet.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import record
from preparing import (
    add_fresh,
    claimed,
    common_flags,
    guarded,
    prepare,
    quick_recipe,
    start_fresh,
    without_test,
)

from epigram import recipes
from epigram.pipeline.stages import plain_stage, structure_stage
from epigram.train import read_metrics

RECIPES = ("lenet-300-100/mnist", "lenet-5/mnist", "lenet-5-horseshoe/mnist")
FIGURES = ("ratio_whole", "ratio_steps", "last_over_first_epoch", "structure_seconds")


def main() -> int:
    """Read or run, write, print."""
    flags = common_flags(__doc__ or "", out="runs/bench-structure", seeds=(0, 1, 2))
    add_fresh(flags)
    flags.add_argument("--recipe", nargs="+", default=list(RECIPES), choices=recipes.names())
    flags.add_argument("--lenets", type=Path, default=record.ROOT / "runs" / "bench")
    arguments = flags.parse_args()
    folders = prepare(arguments)
    about = record.origin(seeds=arguments.seeds)
    found = {}
    for name in arguments.recipe:
        passes = [one(name, seed, folders.runs, arguments) for seed in arguments.seeds]
        spread = {key: record.summary([p[key] for p in passes]) for key in FIGURES}
        found[name] = {"spread": spread, "passes": passes}
        record.write_result("structure_pass", about, {"recipes": found}, folder=folders.results)
    print(table(found))
    return 0


def one(name: str, seed: int, runs: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The figures of one recipe and seed."""
    folder = arguments.lenets / name / f"seed-{seed}"
    source = "lenets.py"
    if arguments.quick or not (folder / "result.json").exists():
        folder, source = runs / name / f"seed-{seed}", "own run"
        if arguments.fresh:
            start_fresh(folder)
        train(name, seed, folder, quick=arguments.quick)
    lines = read_metrics(folder / "metrics.jsonl")
    return {"seed": seed, "source": source, **figures(lines)}


def train(name: str, seed: int, folder: Path, *, quick: bool) -> None:
    """The two stages, or what is left of them."""
    recipe = without_test(recipes.get(name))
    recipe = quick_recipe(recipe) if quick else recipe
    with claimed(recipe, replace(recipe.settings, seed=seed), folder) as job:
        structure_stage(job, plain_stage(job))


def figures(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Times and ratios from the lines of ``metrics.jsonl``.

    Raises:
        ValueError: one of the two stages has no epoch.
    """
    plain = [line for line in lines if line["stage"] == "plain"]
    structure = [line for line in lines if line["stage"] == "structure"]
    if not plain or not structure:
        raise ValueError(
            f"structure_pass: got {len(plain)} plain and {len(structure)} structure epochs, "
            "expected some of both"
        )
    epochs = len(structure)
    whole = sum(line["seconds"] for line in structure)
    plain_whole = epochs * sum(line["seconds"] for line in plain) / len(plain)
    steps = sum(line["step_ms"] for line in structure) / epochs
    plain_steps = sum(line["step_ms"] for line in plain) / len(plain)
    return {
        "epochs": epochs,
        "structure_seconds": round(whole, 3),
        "plain_seconds_for_as_many_epochs": round(plain_whole, 3),
        "ratio_whole": round(whole / plain_whole, 4),
        "structure_step_ms": round(steps, 4),
        "plain_step_ms": round(plain_steps, 4),
        "ratio_steps": round(steps / plain_steps, 4),
        "last_over_first_epoch": round(structure[-1]["step_ms"] / structure[0]["step_ms"], 4),
        "step_ms_per_epoch": [line["step_ms"] for line in structure],
        "effective_parameters": [line.get("effective_parameters") for line in structure],
    }


def table(found: Mapping[str, Any]) -> str:
    """A line per recipe."""
    lines = [f"{'':<28}{'whole epochs':>24}{'steps alone':>24}{'last epoch to first':>24}"]
    for name, figures_ in found.items():
        cells = "".join(f"{_range(figures_['spread'][key]):>24}" for key in FIGURES[:3])
        lines.append(f"{name:<28}{cells}")
    return "\n".join(lines)


def _range(spread: Mapping[str, float]) -> str:
    return f"{spread['median']:.2f}× ({spread['min']:.2f}–{spread['max']:.2f})"


if __name__ == "__main__":
    sys.exit(guarded(main))
