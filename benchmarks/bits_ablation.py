"""What carries the result: LeNet-5 at one floor, one thing changed at a time, in bytes. No test set.

    python benchmarks/bits_ablation.py [--variants as-it-is no-teacher ...] [--seeds 0 1 2]

Structure pass on or off; rows and columns in the prior; distillation; noise against straight-through in the
rate; steps learned or fixed; the prior's family; steering; the bits pass itself against the ladder of prices.
The floor is held by steering, so bytes can be compared. Bytes by a static code stand for the coder: the
entropy of each tensor's symbols with its table free.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import bits_runs
import numpy as np
import record
from preparing import add_fresh, common_flags, guarded, prepare, quick_settings

from epigram import artifact, codec, recipes
from epigram.pipeline import CompressSettings
from epigram.records import CodedTensor

RECIPE = "lenet-5-bits/mnist"
FLOOR = "accuracy>=0.99"

Change = Callable[[CompressSettings], CompressSettings]


def _coding(**more: Any) -> Change:
    return lambda s: replace(s, coding=replace(s.coding, **more))


VARIANTS: Mapping[str, Change] = {
    "as-it-is": lambda s: s,
    "no-structure-pass": lambda s: replace(s, structure=replace(s.structure, epochs=0)),
    "rows-and-columns": _coding(axes=(0, 1)),
    "no-teacher": lambda s: replace(s, teacher_share=0.0),
    "half-teacher": lambda s: replace(s, teacher_share=0.5, teacher_temperature=2.0),
    "rate-of-rounded": _coding(rate_of="rounded"),
    "fixed-steps": _coding(learned_steps=False),
    "one-laplace": _coding(prior="laplace"),
    "spike": _coding(prior="spike"),
    "not-steered": lambda s: replace(s, steer=replace(s.steer, bits=False)),
    "half-the-epochs": lambda s: replace(
        s, bits=replace(s.bits, epochs=max(1, s.bits.epochs // 2))
    ),
    "no-bits-pass": lambda s: replace(
        s,
        bits=replace(s.bits, epochs=0),
        finetune=replace(s.finetune, epochs=s.finetune.epochs + s.bits.epochs),
    ),
}


def main() -> int:
    """Run what is missing, write, print."""
    flags = common_flags(__doc__ or "", out="runs/bench-bits", seeds=(0,))
    add_fresh(flags)
    flags.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    arguments = flags.parse_args()
    folders = prepare(arguments)
    about = record.origin(seeds=arguments.seeds)
    found: dict[str, Any] = {}
    for name in arguments.variants:
        runs = [one(name, seed, folders.runs, arguments) for seed in arguments.seeds]
        found[name] = bits_runs.spread(runs)
        record.write_result(
            "bits_ablation", about, {"floor": FLOOR, "variants": found}, folder=folders.results
        )
    print(table(found))
    return 0


def one(name: str, seed: int, runs: Path, arguments: Any) -> dict[str, Any]:
    """One variant and seed."""
    plain = bits_runs.plain_network(RECIPE, seed, runs, arguments)
    folder = runs / name / f"seed-{seed}"
    recipe = recipes.get(RECIPE)
    settings = VARIANTS[name](recipe.settings)
    if arguments.quick:
        settings = VARIANTS[name](quick_settings(recipe.settings))
    run = bits_runs.compressed(
        RECIPE,
        seed,
        folder,
        arguments,
        plain=plain,
        floor=FLOOR,
        settings=settings,
        reads_test=False,
    )
    return {**run, "static_code_bytes": static_code_bytes(folder / "model.epg")}


def static_code_bytes(path: Path) -> float:
    """What the file's symbols would take at their empirical entropy, a free table per tensor; bytes."""
    shapes = artifact.dense_shapes(recipes.get(RECIPE).build())
    bits = 0.0
    for tensor in codec.decode(path.read_bytes(), dense_shapes=shapes).tensors:
        if isinstance(tensor, CodedTensor) and tensor.symbols.size:
            _, counts = np.unique(tensor.symbols, return_counts=True)
            bits -= float((counts * np.log2(counts / counts.sum())).sum())
    return round(bits / 8.0, 1)


def table(found: Mapping[str, Any]) -> str:
    """A line per variant."""
    lines = [f"{'':<20}{'bytes':>8}{'static code':>13}{'validation, %':>15}{'met':>7}"]
    for name, figures in found.items():
        median = figures["median"]
        error = 100.0 * (1.0 - median["floor"]["validation_value"])
        lines.append(
            f"{name:<20}{median['file_bytes']:>8}{median['static_code_bytes']:>13}{error:>15.2f}"
            f"{figures['floors_met']:>4}/{len(figures['runs'])}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(guarded(main))
