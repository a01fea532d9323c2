"""Would units that the shrinking rule removes have come back? Networks that lose no units, watched.

    python benchmarks/recovery.py [--recipe lenet-300-100/mnist] [--seeds 0 1 2] [--examples 50000]

The structure stage of a recipe with ``shrink=False``, so that every unit that would have gone stays and
may recover. After every epoch the removability of every unit is written down. From these trajectories:
which units were beyond the cut for ``patience`` epochs in a row (the rule would have removed them then),
how many of those were below the cut at some later epoch, and how many were *signal* again at some later
epoch or at the end: log alpha below 0 (the scale's mean is more than its standard deviation), or, for the
horseshoe, a mode above 1/e of where it started. That for several cuts and patiences, so that one sees where the rule begins to fail. Both
priors; the test set is not there at all. The same command again measures what is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import record
from cells import Cells
from numpy.typing import NDArray
from preparing import (
    add_fresh,
    claimed,
    common_flags,
    drop_begun_by_other_code,
    first,
    guarded,
    prepare,
    quick_recipe,
    start_fresh,
    without_test,
)

from epigram import recipes
from epigram.config import to_dict
from epigram.convert import PriorName, Twin, bayesianize
from epigram.pipeline import Recipe
from epigram.pipeline.stages import plain_stage
from epigram.prune.shrinking import SUGGESTED_CUT
from epigram.train import BayesianLearner

RECIPE = "lenet-300-100/mnist"
PRIORS: tuple[PriorName, ...] = ("group-jeffreys", "group-horseshoe")
CUTS = (0.0, 1.0, 2.0, 3.0, 4.0)
PATIENCES = (1, 2, 3, 5)
SIGNAL: Mapping[PriorName, float] = {"group-jeffreys": 0.0, "group-horseshoe": 1.0}
"""Below this removability a scale is signal rather than noise."""
FOLDER = "removability"

Trajectories = Mapping[str, NDArray[np.floating[Any]]]
"""Per scale, removability [epochs, units] of a network that loses none."""


def main() -> int:
    """Measure what is missing, write, print."""
    flags = common_flags(__doc__ or "", out="runs/bench-recovery", seeds=(0, 1, 2))
    add_fresh(flags)
    flags.add_argument("--recipe", default=RECIPE, choices=recipes.names())
    flags.add_argument("--examples", type=int, default=50_000, help="fitted to, the first so many")
    flags.add_argument("--priors", nargs="+", choices=PRIORS, default=list(PRIORS))
    arguments = flags.parse_args()
    folders = prepare(arguments)
    recipe = fewer(without_test(recipes.get(arguments.recipe)), arguments.examples)
    recipe = quick_recipe(recipe) if arguments.quick else recipe
    network = arguments.recipe.partition("/")[0]
    cells = Cells(
        "recovery" if arguments.recipe == RECIPE else f"recovery-{network}",
        about=record.origin(seeds=arguments.seeds),
        settings={
            "recipe": arguments.recipe,
            "examples": arguments.examples,
            "structure": to_dict(recipe.settings.structure),
        },
        planned=[f"{prior}/seed-{seed}" for seed in arguments.seeds for prior in arguments.priors],
        folder=folders.results,
        fresh=arguments.fresh,
    )
    for key in cells.asked:
        folder = folders.runs / network / key
        if arguments.fresh:
            start_fresh(folder)
        cells.measure(key, lambda key=key, folder=folder: one(recipe, key, folder))  # type: ignore[misc]
    cells.write()
    print(table(cells.done))
    return 0


def fewer(recipe: Recipe, examples: int) -> Recipe:
    """Fewer images to fit."""
    load = recipe.load_data

    def few() -> Any:
        splits = load()
        return replace(splits, fit=first(splits.fit, examples))

    return replace(recipe, load_data=few)


def one(recipe: Recipe, key: str, folder: Path) -> dict[str, Any]:
    """A structure stage without removal, and what its trajectories say."""
    prior, _, seed = key.partition("/seed-")
    posterior = replace(recipe.settings.posterior, prior=prior)  # type: ignore[arg-type]
    settings = replace(recipe.settings, seed=int(seed), posterior=posterior)
    drop_begun_by_other_code(folder)
    with claimed(recipe, settings, folder, watched=True) as job:
        twin = bayesianize(plain_stage(job), job.example, settings=posterior)
        watch = Watch()
        learner = BayesianLearner(
            twin,
            len(job.splits.fit),
            on_epoch=lambda end: watch.look(job.folder, twin, end.epoch),
        )
        result = job.fit(learner, settings.structure, "structure")
        found = judged(watch.trajectories(job.folder), posterior.prior)
        return {**found, "control": dict(result.last["control"]), "seconds": result.seconds}


class Watch:
    """Writes down every unit's removability after every epoch, and reads it all back."""

    def look(self, folder: Path, twin: Twin, epoch: int) -> None:
        """One epoch's, in a file of its own, so that a stopped run goes on."""
        (folder / FOLDER).mkdir(exist_ok=True)
        np.savez(folder / FOLDER / f"{epoch:04d}.npz", **twin.removability())  # type: ignore[arg-type]

    def trajectories(self, folder: Path) -> Trajectories:
        """All epochs', in order."""
        epochs = [np.load(path) for path in sorted((folder / FOLDER).glob("*.npz"))]
        return {name: np.stack([epoch[name] for epoch in epochs]) for name in epochs[0].files}


def judged(trajectories: Trajectories, prior: PriorName) -> dict[str, Any]:
    """What the rule would have done at several cuts and patiences, over all scales together.

    Args:
        trajectories: of a network that loses nothing.
        prior: of its scales.
    """
    suggested, signal = SUGGESTED_CUT[prior], SIGNAL[prior]
    together = np.concatenate(list(trajectories.values()), axis=1)
    cuts = sorted({*CUTS, suggested})
    rules = [rule(together, cut, patience, signal) for cut in cuts for patience in PATIENCES]
    return {
        "suggested_cut": suggested,
        "signal_below": signal,
        "epochs": len(together),
        "units": together.shape[1],
        "beyond_at_the_end": int((together[-1] > suggested).sum()),
        "rules": rules,
    }


def rule(removability: NDArray[Any], cut: float, patience: int, signal: float) -> dict[str, Any]:
    """How many units one cut and patience would have removed, and how many of them came back.

    Args:
        removability: [epochs, units].
        cut: beyond it a unit counts as noise.
        patience: for so many epochs in a row.
        signal: below it a scale is no noise.
    """
    when = removal_epochs(removability > cut, patience)
    gone = np.flatnonzero(when < len(removability))
    later = [removability[when[unit] + 1 :, unit] for unit in gone]
    return {
        "cut": cut,
        "patience": patience,
        "removed": len(gone),
        "below_the_cut_later": sum(bool((after <= cut).any()) for after in later),
        "below_the_cut_at_the_end": sum(bool(after.size and after[-1] <= cut) for after in later),
        "signal_later": sum(bool((after < signal).any()) for after in later),
        "signal_at_the_end": sum(bool(after.size and after[-1] < signal) for after in later),
        "least_at_the_end": round(min((float(a[-1]) for a in later if a.size), default=0.0), 3),
    }


def removal_epochs(noisy: NDArray[np.bool_], patience: int) -> NDArray[np.int64]:
    """Per unit, the epoch (from 0) after which the rule removes it; the number of epochs = never."""
    counts = np.zeros(noisy.shape[1], np.int64)
    when = np.full(noisy.shape[1], len(noisy), np.int64)
    for epoch, beyond in enumerate(noisy):
        counts = np.where(beyond, counts + 1, 0)
        when = np.where((counts >= patience) & (when == len(noisy)), epoch, when)
    return when


def table(cells: Mapping[str, Mapping[str, Any]]) -> str:
    """A line per prior, cut and patience, summed over the seeds."""
    head = f"{'':<18}{'cut':>6}{'patience':>10}{'removed':>10}{'below the cut later':>22}"
    lines = [f"{head}{'signal later':>14}{'at the end':>12}"]
    for prior, rules in summed(cells).items():
        lines += [
            f"{prior:<18}{found['cut']:>6g}{found['patience']:>10}{found['removed']:>10}"
            f"{found['below_the_cut_later']:>22}{found['signal_later']:>14}"
            f"{found['signal_at_the_end']:>12}"
            for found in rules
        ]
    return "\n".join(lines)


def summed(cells: Mapping[str, Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Per prior, every rule with its counts added up over the seeds."""
    found: dict[str, list[dict[str, Any]]] = {}
    for prior in dict.fromkeys(key.partition("/")[0] for key in cells):
        seeds = [cell["rules"] for key, cell in cells.items() if key.startswith(f"{prior}/")]
        found[prior] = [_added(same) for same in zip(*seeds, strict=True)]
    return found


def _added(rules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    counts = (
        "removed",
        "below_the_cut_later",
        "below_the_cut_at_the_end",
        "signal_later",
        "signal_at_the_end",
    )
    return {
        "cut": rules[0]["cut"],
        "patience": rules[0]["patience"],
        **{key: sum(r[key] for r in rules) for key in counts},
        "least_at_the_end": min(r["least_at_the_end"] for r in rules),
    }


if __name__ == "__main__":
    sys.exit(guarded(main))
