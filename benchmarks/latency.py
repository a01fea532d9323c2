"""What removing units does to latency, and what round numbers of units do to it.

    python benchmarks/latency.py [--rounds N] [--batch N] [--share 0.3]

Three networks of torchvision at random weights, each four times: as it is; without about 30 % of the units
of every group, drawn at random per group, so that counts are odd or even as they come; the same masks
rounded up to multiples of 8; and down to the multiples of 8 below, so that both kinds of rounding frame the
odd one. A forward pass of each in turns within a round, the order changing from round to round; processor time
of one thread, which other work on the machine disturbs less than the clock on the wall. A ratio is the median
over the rounds of ratios within a round. Results: results/latency.json.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import record
import torch
from preparing import common_flags, guarded, prepare
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from epigram.records import BoolArray
from epigram.structure import (
    analyse,
    mask_units,
    remove_units,
    round_masks,
    slice_plan,
    verify_removal,
)

NETWORKS = ("resnet18", "mobilenet_v2", "vgg11_bn")
ROUND_TO = 8
SIDE = 96


def main() -> int:
    """Measure, write, print."""
    flags = common_flags(__doc__ or "", out="runs/bench-latency")
    flags.add_argument("--rounds", type=int, default=30)
    flags.add_argument("--batch", type=int, default=1)
    flags.add_argument("--share", type=float, default=0.3, help="of the units that go")
    arguments = flags.parse_args()
    folders = prepare(arguments)
    about = record.origin(seeds=arguments.seeds, packages=("torchvision",))
    names = NETWORKS[:1] if arguments.quick else NETWORKS
    rounds = 3 if arguments.quick else arguments.rounds
    found = {
        name: measured(name, arguments.seeds[0], arguments.share, arguments.batch, rounds)
        for name in names
    }
    settings = {"round_to": ROUND_TO, "side": SIDE, "batch": arguments.batch, "rounds": rounds}
    figures = {"settings": {**settings, "share": arguments.share}, "networks": found}
    record.write_result("latency", about, figures, folder=folders.results)
    for name, result in found.items():
        for variant, row in result.items():
            print(f"{name:<14}{variant:<10}{row['macs']:>14,}{row['relative']['median']:>8.3f}")
    return 0


def measured(name: str, seed: int, share: float, batch: int, rounds: int) -> dict[str, Any]:
    """Multiply-accumulates, parameters and time of each variant of one network."""
    torch.manual_seed(seed)
    model = _built(name)
    image = torch.randn(batch, 3, SIDE, SIDE)
    variants = {"whole": model, **_smaller(model, image, share, seed)}
    times: dict[str, list[float]] = {variant: [] for variant in variants}
    for number in range(-2, rounds):  # the first two warm up
        order = list(variants)
        order = order[number % len(order) :] + order[: number % len(order)]
        for variant in order:
            seconds = _timed(variants[variant], image)
            if number >= 0:
                times[variant].append(seconds)
    return {
        variant: {
            "macs": _macs(network, image),
            "parameters": sum(p.numel() for p in network.parameters()),
            "ms": record.summary([1000 * t for t in times[variant]]),
            "relative": record.summary(
                [t / whole for t, whole in zip(times[variant], times["whole"], strict=True)]
            ),
        }
        for variant, network in variants.items()
    }


def _built(name: str) -> nn.Module:
    from torchvision import models

    return models.get_model(name, weights=None).eval()


def _smaller(
    model: nn.Module, image: torch.Tensor, share: float, seed: int
) -> dict[str, nn.Module]:
    structure = analyse(model, image)
    random = np.random.default_rng(seed)
    order = {g.name: random.permutation(g.units) for g in structure.groups}
    keep: dict[str, BoolArray] = {}
    for group in structure.groups:
        left = round(group.units * (1 - share * random.uniform(0.8, 1.2))) | 1  # an odd number
        keep[group.name] = order[group.name] < left
    up = round_masks(keep, order, ROUND_TO)
    down = {
        name: order[name] < max(ROUND_TO, int(mask.sum()) // ROUND_TO * ROUND_TO)
        for name, mask in keep.items()
    }
    masks: Mapping[str, dict[str, BoolArray]] = {
        "odd": keep,
        "rounded up": up,
        "rounded down": down,
    }
    small = {}
    for variant, mask in masks.items():
        small[variant] = remove_units(model, slice_plan(structure, mask)).eval()
        verify_removal(small[variant], mask_units(model, structure, mask), image)
    return small


def _timed(network: nn.Module, image: torch.Tensor) -> float:
    with torch.inference_mode():
        begin = time.process_time()
        network(image)
        return time.process_time() - begin


def _macs(network: nn.Module, image: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return int(counter.get_total_flops()) // 2


if __name__ == "__main__":
    sys.exit(guarded(main))
