"""The whole experiment on CIFAR-10, for a machine with a GPU: from random weights to decoded files.

    python benchmarks/full_cifar.py [--device cuda] [--seeds 0 1 2] [--networks vgg16 resnet50 ...]

One command, resumable: each network and seed runs in a folder of its own, a finished one is read, a killed one
goes on from its last checkpoint (at most a minute old). Give a machine with several GPUs one network each
with --networks and another --out, then run the command once more over all of them. The data are the original
CIFAR-10 (``--data cifar10-jpeg`` takes the JPEG copy, whose errors are higher). The settings are the recipes',
the floors those of ``full_cifar_expected.py``, bf16 on a GPU. The test set is read once per run, from the decoded file.

``resnet20`` starts from pretrained weights, whose file has to be got first (docs/data.md). Without it that row says so and
all others are run; ``resnet20-scratch`` is the same network without them.

Prints, and writes to results/full_cifar.json, what came out beside what is expected, on what grounds, and what has
been published. Published figures are not ours: their kind (length of an arithmetic code, a formula) stands beside each.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import record
import torch
from cells import Cells
from full_cifar_expected import EXPECTED, FLOORS, PUBLISHED
from preparing import add_fresh, common_flags, guarded, prepare, quick_recipe, start_fresh

from epigram import recipes
from epigram.pipeline import CompressSettings, Recipe, compress_recipe
from epigram.recipes.cifar import RESNET20

PRETRAINED = {"resnet20": RESNET20}


def main() -> int:
    """Run what is missing, write, print."""
    flags = common_flags(__doc__ or "", out="runs/bench-full-cifar", seeds=(0, 1, 2))
    add_fresh(flags)
    flags.add_argument("--networks", nargs="+", choices=list(FLOORS), default=list(FLOORS))
    flags.add_argument("--data", choices=("cifar10", "cifar10-jpeg"), default="cifar10")
    flags.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = flags.parse_args()
    folders = prepare(arguments)
    cells = Cells(
        "full_cifar",
        about=record.origin(seeds=arguments.seeds),
        settings={"data": arguments.data, "floors": FLOORS},
        planned=[f"{name}/seed-{seed}" for name in arguments.networks for seed in arguments.seeds],
        folder=folders.results,
        summarise=summarised,
        fresh=arguments.fresh,
    )
    cells.write()
    print(table(measured(cells.done)))
    for key in cells.asked:
        lacks = lacking(key.partition("/")[0])
        if lacks and key not in cells.done:
            print(f"{key}: left out, {lacks}", file=sys.stderr)
            continue
        folder = folders.runs / arguments.data / key
        if arguments.fresh:
            start_fresh(folder)
        cells.measure(key, lambda key=key, folder=folder: one(key, folder, arguments))  # type: ignore[misc]
        print(table(measured(cells.done)))
    return 0


def one(key: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One network and seed, from random (or pretrained) weights to the decoded file."""
    name, _, seed = key.partition("/seed-")
    recipe: Recipe = recipes.get(f"{name}/{arguments.data}")
    if arguments.quick:
        recipe = quick_recipe(recipe)
    settings = replace(recipe.settings, seed=int(seed), device=arguments.device)
    if arguments.device != "cpu":
        settings = in_bf16(settings)
    floor = None if arguments.quick else FLOORS[name]
    result = compress_recipe(recipe, settings, folder, floor=floor, force=True)
    figures = {
        "seed": int(seed),
        **{k: result[k] for k in ("file_bytes", "dense_bytes", "ratio", "predicted_bytes")},
        **{k: result.get(k) for k in ("test_error_percent", "dense_test_error_percent")},
        **{k: result[k] for k in ("floor", "macs", "parameters", "seconds")},
        "device": arguments.device,
    }
    if not arguments.quick:
        told = {k: figures[k] for k in ("file_bytes", "test_error_percent")}
        record.record_test_read(recipe=recipe.name, seed=int(seed), figure=told)
    return figures


def lacking(name: str) -> str:
    """What a network cannot be run without and is not there; "" = it can be run."""
    weights = PRETRAINED.get(name)
    if weights is None or any(place.is_file() for place in weights.places()):
        return ""
    return f"{weights.file} not found ({weights.places()[0]}); it is {weights.source}"


def in_bf16(settings: CompressSettings) -> CompressSettings:
    """All stages with the forward pass in bf16."""
    return replace(
        settings,
        plain=replace(settings.plain, amp="bf16"),
        structure=replace(settings.structure, amp="bf16"),
        finetune=replace(settings.finetune, amp="bf16"),
    )


def measured(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Per network: the run whose file has the median size; None where no run is finished."""
    found: dict[str, Any] = {}
    for name in FLOORS:
        runs = [cell for key, cell in cells.items() if key.startswith(f"{name}/")]
        found[name] = {"runs": len(runs), **record.median_by_bytes(runs)} if runs else None
    return found


def summarised(cells: Mapping[str, Any]) -> dict[str, Any]:
    """What came out, what was expected, and what has been published."""
    return {
        "measured": measured(cells),
        "expected": {name: asdict(expected) for name, expected in EXPECTED.items()},
        "published": {name: [asdict(one) for one in found] for name, found in PUBLISHED.items()},
    }


def table(ours: Mapping[str, Any]) -> str:
    """Ours, what is expected, and what has been published, a line each."""
    lines = [f"{'':<18}{'method':<32}{'bytes':>12}{'test error %':>14}  kind"]
    for name, found in ours.items():
        if found is None:
            why = "the pretrained weights are not here" if lacking(name) else "not run yet"
            lines.append(f"{name:<18}{'epigram':<32}{'–':>12}{'–':>14}  file ({why})")
        else:
            error = found["test_error_percent"]
            lines.append(
                f"{name:<18}{'epigram':<32}{found['file_bytes']:>12}{error:>14.2f}  file, "
                f"median of {found['runs']}; original {found['dense_test_error_percent']:.2f} %"
            )
        expected = EXPECTED[name]
        lines.append(
            f"{'':<18}{'expected':<32}{f'<= {expected.most_bytes}':>12}{expected.error_percent:>14}  "
            f"{expected.grounds}"
        )
        lines += [
            f"{'':<18}{one.method:<32}{one.size_bytes:>12}{one.error_percent:>14.2f}  "
            f"published: {one.kind}"
            for one in PUBLISHED.get(name, ())
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(guarded(main))
