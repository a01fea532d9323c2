"""What somebody gets who sets nothing: a compact network of one's own through ``epigram.compress``.

    python benchmarks/defaults.py [--steps-per-std 2.5 4 8] [--seeds 0 1 2]

A small network of depthwise convolutions, squeeze-excitation and batch normalisation, on 6 000 images of MNIST; two
points below what it reaches on validation are allowed. Its weights are few and all of use, other than those of the
LeNets that recipes are made for. ``--steps-per-std``: with how many steps a root mean square the bits pass begins.

The chosen value is that of ``CodingSettings``; validation judges, no test set is there. Every run is a cell of
results/defaults.json; the same command measures what is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import record
import torch
import torch.nn.functional as F
from cells import Cells, spreads
from preparing import add_fresh, common_flags, guarded, prepare, quick_settings, start_fresh
from torch import Tensor, nn

import epigram
from epigram.convert import CodingSettings
from epigram.data import TensorSet, mnist
from epigram.pipeline import CompressSettings
from epigram.train import TrainSettings

NAME = "defaults"
FITTED, KEPT_BACK = 6_000, 3_000
PLAIN = TrainSettings(epochs=8, batch_size=64, learning_rate=3e-3)
FIGURES = ("file_bytes", "ratio")


class Separable(nn.Module):
    """A depthwise and a pointwise convolution, gated by channel, beside what goes in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)
        self.squeeze = nn.Conv2d(channels, channels // 4, 1)
        self.excite = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.pointwise(self.norm(self.depthwise(x))))
        gate = self.excite(F.relu(self.squeeze(out.mean((2, 3), keepdim=True))))
        return x + out * torch.sigmoid(gate)


class Compact(nn.Module):
    """Two such blocks: 7 686 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one = nn.Conv2d(1, 16, 3, stride=2, padding=1), Separable(16)
        self.down, self.two = nn.Conv2d(16, 32, 3, stride=2, padding=1), Separable(32)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(F.relu(self.stem(x)))
        x = self.two(F.relu(self.down(x)))
        return self.head(x.mean((2, 3)))


def main() -> int:
    """Measure what is missing, write, print."""
    flags = common_flags(__doc__ or "", out="runs/bench-defaults", seeds=(0, 1, 2))
    add_fresh(flags)
    default = CodingSettings().steps_per_std
    flags.add_argument("--steps-per-std", type=float, nargs="+", default=[2.5, default, 8.0])
    arguments = flags.parse_args()
    folders = prepare(arguments)
    starts = list(dict.fromkeys(arguments.steps_per_std))
    cells = Cells(
        NAME,
        about=record.origin(seeds=arguments.seeds),
        settings={"default": default, "fitted": FITTED, "kept_back": KEPT_BACK},
        planned=[f"{start:g}/seed-{seed}" for seed in arguments.seeds for start in starts],
        folder=folders.results,
        summarise=summarised,
        fresh=arguments.fresh,
    )
    for key in cells.asked:
        folder = folders.runs / key
        if arguments.fresh:
            start_fresh(folder)
        cells.measure(key, lambda key=key, folder=folder: one(key, folder, quick=arguments.quick))  # type: ignore[misc]
    cells.write()
    print(table(summarised(cells.done)["spread"]))
    return 0


def one(key: str, folder: Path, *, quick: bool) -> dict[str, Any]:
    """The figures of one run, from random weights to the file."""
    start, _, seed = key.partition("/seed-")
    torch.manual_seed(int(seed))
    settings = CompressSettings(
        seed=int(seed), plain=PLAIN, coding=CodingSettings(steps_per_std=float(start)), page=False
    )
    train, _ = mnist.load()
    found = epigram.compress(
        Compact(),
        images(train, 0, FITTED // (10 if quick else 1)),
        validation_data=images(train, FITTED, FITTED + KEPT_BACK),
        max_drop=0.02,
        folder=folder,
        settings=quick_settings(settings) if quick else settings,
    )
    floor = found.figures["floor"]
    return {
        "file_bytes": found.figures["file_bytes"],
        "ratio": found.figures["ratio"],
        "met": found.met,
        "fallback": found.figures["fallback"],
        "floor": floor,
    }


def images(data: TensorSet, begin: int, end: int) -> TensorSet:
    """Grey values from 0 to 1, as one would make them."""
    pixels = data.inputs[begin:end].reshape(-1, 1, 28, 28).float() / 255
    return TensorSet(pixels, data.targets[begin:end], f"{begin}-{end}")


def summarised(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Bytes over the seeds, and how many of the files are a fallback."""
    spread = spreads(cells, FIGURES, name=lambda key: key.partition("/")[0])
    for start, found in spread.items():
        own = [cell for key, cell in cells.items() if key.partition("/")[0] == start]
        found["fallbacks"] = sum(cell["fallback"] is not None for cell in own)
    return {"spread": spread}


def table(spread: Mapping[str, Any]) -> str:
    """A line per start."""
    lines = [f"{'steps a root mean square':<26}{'bytes':>24}{'fallbacks':>12}"]
    for start, found in spread.items():
        size = found["file_bytes"]
        reach = f"{size['median']:.0f} ({size['min']:.0f} to {size['max']:.0f})"
        lines.append(f"{start:<26}{reach:>24}{found['fallbacks']:>12}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(guarded(main))
