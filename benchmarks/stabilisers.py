"""What each stabiliser is good for: LeNet-300-100 without one of them at a time.

    python benchmarks/stabilisers.py [--seeds 0 1 2 3 4] [--epochs 30] [--examples 10000]

Per seed one plain network, and from it one structure stage per variant. Of each variant: how often it
went to NaN and in which epoch; of the rest, the error on the validation split and the bytes a file would
take. Everything else is as in the recipe, but for the number of images. The test set is not there at
all. A restart skips what is finished and goes on with what was killed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import record
from preparing import (
    add_fresh,
    claimed,
    common_flags,
    first,
    guarded,
    prepare,
    quick_recipe,
    start_fresh,
    without_test,
)

from epigram import atomic, recipes
from epigram.config import differences, to_dict
from epigram.data import Splits
from epigram.errors import NonFiniteError
from epigram.pipeline import CompressSettings, Recipe
from epigram.pipeline.job import Job
from epigram.pipeline.stages import plain_stage, structure_stage
from epigram.train import read_metrics

RECIPE = "lenet-300-100/mnist"
AS_IT_IS = "as it is"


def _without_clamp(settings: CompressSettings) -> CompressSettings:
    unbounded = replace(
        settings.posterior,
        logvar_min=None,
        logvar_max=None,
        scale_logvar_min=None,
        scale_logvar_max=None,
    )
    return replace(
        settings,
        posterior=unbounded,
        structure=replace(settings.structure, clamp=False),
    )


def _without_clipping(settings: CompressSettings) -> CompressSettings:
    return replace(settings, structure=replace(settings.structure, grad_clip=None))


def _without_warmup(settings: CompressSettings) -> CompressSettings:
    return replace(settings, structure=replace(settings.structure, kl_warmup_epochs=0.0))


VARIANTS: Mapping[str, Callable[[CompressSettings], CompressSettings]] = {
    AS_IT_IS: lambda settings: settings,
    "without variance clamp": _without_clamp,
    "without gradient clipping": _without_clipping,
    "without KL warm-up": _without_warmup,
}


def main() -> int:
    """Run what is missing, write, print."""
    flags = common_flags(__doc__ or "", out="runs/bench-stabilisers", seeds=range(5))
    add_fresh(flags)
    flags.add_argument("--epochs", type=int, default=30, help="of the structure stage")
    flags.add_argument("--examples", type=int, default=10_000, help="fitted to, the first so many")
    arguments = flags.parse_args()
    folders = prepare(arguments)
    about = record.origin(seeds=arguments.seeds)
    recipe = fewer(without_test(recipes.get(RECIPE)), arguments.examples)
    base = replace(
        recipe.settings, structure=replace(recipe.settings.structure, epochs=arguments.epochs)
    )
    if arguments.quick:
        recipe = quick_recipe(replace(recipe, settings=base))
        base = recipe.settings
    cells: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
    for seed in arguments.seeds:
        for name, cell in one_seed(recipe, replace(base, seed=seed), folders.runs, arguments):
            cells[name].append(cell)
            figures = {
                "examples": arguments.examples,
                "settings": to_dict(base),
                "variants": summarised(base, cells),
            }
            record.write_result("stabilisers", about, figures, folder=folders.results)
    print(table(summarised(base, cells)))
    return 0


def fewer(recipe: Recipe, examples: int) -> Recipe:
    """The recipe on the first so many images that are fitted to; N is their number."""

    def load() -> Splits:
        splits = recipe.load_data()
        return replace(splits, fit=first(splits.fit, examples))

    return replace(recipe, load_data=load)


def one_seed(
    recipe: Recipe, base: CompressSettings, runs: Path, arguments: argparse.Namespace
) -> Sequence[tuple[str, dict[str, Any]]]:
    """The plain network of a seed, and what became of it in every variant that differs."""
    plain = runs / f"seed-{base.seed}" / "plain"
    if arguments.fresh:
        start_fresh(plain)
    with claimed(recipe, base, plain) as job:
        plain_stage(job)  # which is read, not trained, when it is complete
    done = []
    for name, change in VARIANTS.items():
        settings = change(base)
        if name != AS_IT_IS and settings == base:
            continue
        folder = runs / f"seed-{base.seed}" / name.replace(" ", "-").lower()
        if arguments.fresh:
            start_fresh(folder)
        with claimed(recipe, settings, folder, variant=name) as job:
            done.append((name, one_cell(job, plain)))
    return done


def one_cell(job: Job, plain: Path) -> dict[str, Any]:
    """A structure stage and how it ended, read from disk if it has ended before."""
    known = job.folder / "cell.json"
    if known.exists():
        cell: dict[str, Any] = json.loads(known.read_text("utf-8"))
        return cell
    cell = {"seed": job.settings.seed, "nan": None, **record.code_version()}
    try:
        twin, _ = structure_stage(job, plain_stage(job, from_folder=plain))
    except NonFiniteError as error:
        cell["nan"] = {**where(error.bundle), "message": str(error).replace(str(job.folder), "…")}
    else:
        validation = job.evaluate(twin, job.splits.validation)
        cell |= {"error_percent": validation.error_percent, "nll": validation.nll}
    lines = read_metrics(job.folder / "metrics.jsonl", stage="structure")
    norms = [line["train"].get("grad_norm") for line in lines]
    cell |= {
        "epochs": len(lines),
        "seconds": round(sum(line["seconds"] for line in lines), 2),
        "largest_mean_grad_norm": max((n for n in norms if n is not None), default=None),
        "predicted_bytes": lines[-1].get("predicted_bytes") if lines else None,
        "units": lines[-1].get("units") if lines else None,
    }
    atomic.write_json(known, cell)
    return cell


def where(bundle: Path | None) -> dict[str, int | None]:
    """Epoch and step of a failure, counted from 1."""
    if bundle is None:
        return {"epoch": None, "step": None}
    about = json.loads((bundle / "bundle.json").read_text("utf-8"))
    return {"epoch": about["epoch"], "step": about["step"]}


def summarised(
    base: CompressSettings, cells: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """Per variant: what was changed, how often it broke, and the spread of the rest."""
    found = {}
    for name, change in VARIANTS.items():
        whole = [cell for cell in cells[name] if cell["nan"] is None]
        changed = differences(to_dict(base), to_dict(change(base)))
        found[name] = {
            "changed": {key: {"from": old, "to": new} for key, (old, new) in changed.items()},
            "same_as_it_is": name != AS_IT_IS and not changed,
            "runs": len(cells[name]),
            "went_to_nan": len(cells[name]) - len(whole),
            "nan_epochs": [cell["nan"]["epoch"] for cell in cells[name] if cell["nan"]],
            "validation_error_percent": _spread(whole, "error_percent"),
            "validation_nll": _spread(whole, "nll"),
            "predicted_bytes": _spread(whole, "predicted_bytes"),
            "cells": list(cells[name]),
        }
    return found


def _spread(cells: Sequence[Mapping[str, Any]], key: str) -> dict[str, float | int] | None:
    values = [cell[key] for cell in cells if cell.get(key) is not None]
    return record.summary(values) if values else None


def table(variants: Mapping[str, Any]) -> str:
    """A line per variant."""
    lines = [f"{'':<28}{'NaN':>8}{'in epochs':>14}{'error %':>24}{'predicted bytes':>28}"]
    for name, found in variants.items():
        if found["same_as_it_is"]:
            lines.append(f"{name:<28}  the recipe is without it already")
            continue
        epochs = ", ".join(map(str, found["nan_epochs"])) or "–"
        nan = f"{found['went_to_nan']} of {found['runs']}"
        error = _range(found["validation_error_percent"], ".2f")
        size = _range(found["predicted_bytes"], ".0f")
        lines.append(f"{name:<28}{nan:>8}{epochs:>14}{error:>24}{size:>28}")
    return "\n".join(lines)


def _range(spread: Mapping[str, float] | None, form: str) -> str:
    if spread is None:
        return "–"
    return f"{spread['median']:{form}} ({spread['min']:{form}} to {spread['max']:{form}})"


if __name__ == "__main__":
    sys.exit(guarded(main))
