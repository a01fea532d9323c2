"""What a batch costs beside the training step it feeds: prints JSON.

    python benchmarks/data_path.py [--rounds 15] [--batch-size 128] [--threads 1]

The two are measured in turn, round by round, so that other load on the machine falls on both.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import nn

from epigram.data import Augment, Preprocess, TensorSet, batches, cifar, mnist
from epigram.data.stream import Batch
from epigram.recipes.networks import LeNet5Caffe, LeNet300100
from epigram.recipes.residual import CifarResNet

SEED = 0
BATCHES = 100


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(SEED)

    data = mnist.splits().fit
    colour = TensorSet(
        torch.randint(0, 256, (5_000, 3, 32, 32), dtype=torch.uint8), torch.randint(0, 10, (5_000,))
    )
    feeds = {
        "plain": feed(data, arguments.batch_size, None),
        "shift": feed(data, arguments.batch_size, Augment(shift=2)),
        "shift-edge": feed(data, arguments.batch_size, Augment(shift=2, fill="edge")),
        "shift-flip": feed(data, arguments.batch_size, Augment(shift=2, flip=True)),
        "colour-crop-flip": feed(colour, arguments.batch_size, Augment(shift=4, flip=True)),
    }
    batch, colours = next(feeds["plain"](0)), next(feeds["colour-crop-flip"](0))
    steps = {
        "lenet-300-100": training_step(LeNet300100(), batch),
        "lenet-5": training_step(LeNet5Caffe(), batch),
        "resnet-20": training_step(CifarResNet(), colours),
    }
    turns: dict[str, list[float]] = {name: [] for name in (*feeds, *steps)}
    for number in range(-1, arguments.rounds):
        for name, make in feeds.items():
            keep(turns[name], number, lambda make=make, n=number + 1: drain(make(n)))
        for name, step in steps.items():
            count = 1 if name == "resnet-20" else BATCHES // 5
            keep(turns[name], number, lambda step=step, n=count: [step() for _ in range(n)])
    print(json.dumps(report(turns, list(feeds), list(steps), vars(arguments)), indent=2))


def feed(
    data: TensorSet, batch_size: int, augment: Augment | None
) -> Callable[[int], Iterator[Batch]]:
    """Epoch number -> its batches: of the 50 000 MNIST images that are fitted, or of colour images."""
    grey = data.inputs.shape[1] == 1
    preprocess = Preprocess(*((mnist.MEAN, mnist.STD) if grey else (cifar.MEAN, cifar.STD)))
    return lambda epoch: batches(
        data,
        batch_size=batch_size,
        seed=SEED,
        epoch=epoch,
        preprocess=preprocess,
        augment=augment,
    )


def drain(stream: Iterator[Batch]) -> list[None]:
    """Take a whole epoch, the permutation at its start included; one entry per batch."""
    return [None for _ in stream]


def training_step(model: nn.Module, batch: Batch) -> Callable[[], None]:
    """One step of the plain network with Adam, on a batch that is there already."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()

    return step


def keep(turns: list[float], number: int, run: Callable[[], list[None]]) -> None:
    """Time ``run`` per entry it returns, in ms; round -1 warms up and is not kept."""
    start = time.perf_counter()
    entries = len(run())
    if number >= 0:
        turns.append((time.perf_counter() - start) * 1e3 / entries)


def report(
    turns: dict[str, list[float]], feeds: list[str], steps: list[str], settings: dict[str, int]
) -> dict[str, object]:
    """Medians with their spread; the median over rounds of each feed's share of each step."""
    root = Path(__file__).resolve().parents[1]
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    return {
        "benchmark": "data_path",
        "commit": commit.stdout.strip() or None,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "machine": platform.machine(),
        "seed": SEED,
        "settings": settings,
        "ms": {
            name: {"median": median(values), "min": min(values), "max": max(values)}
            for name, values in turns.items()
        },
        "share_of_step_percent": {
            step: {
                name: median(
                    100.0 * batch / whole
                    for batch, whole in zip(turns[name], turns[step], strict=True)
                )
                for name in feeds
            }
            for step in steps
        },
    }


if __name__ == "__main__":
    main()
