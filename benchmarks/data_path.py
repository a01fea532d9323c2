"""What a batch costs beside the training step it feeds.

    python benchmarks/data_path.py [--rounds 15] [--batch-size 128] [--threads 1]

The two are measured in turn, round by round, so that other load on the machine falls on both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median

import record
import torch
import torch.nn.functional as F
from preparing import common_flags, prepare
from torch import nn

from epigram.data import (
    Augment,
    Augmentation,
    Preprocess,
    TensorSet,
    Warp,
    batches,
    cifar,
    mnist,
)
from epigram.data.stream import Batch
from epigram.recipes.networks import LeNet5Caffe, LeNet300100
from epigram.recipes.residual import CifarResNet

SEED = 0
BATCHES = 100


def main() -> None:
    """Measure, write, print."""
    flags = common_flags(__doc__ or "", out="runs/bench-data-path", seeds=(SEED,))
    flags.add_argument("--rounds", type=int, default=15)
    flags.add_argument("--batch-size", type=int, default=128)
    arguments = flags.parse_args()
    folders = prepare(arguments)
    about = record.origin(seeds=[SEED])
    torch.manual_seed(SEED)
    rounds = 1 if arguments.quick else arguments.rounds

    data = mnist.splits().fit
    colour = TensorSet(
        torch.randint(0, 256, (5_000, 3, 32, 32), dtype=torch.uint8), torch.randint(0, 10, (5_000,))
    )
    feeds = {
        "plain": feed(data, arguments.batch_size, None),
        "shift": feed(data, arguments.batch_size, Augment(shift=2)),
        "shift-edge": feed(data, arguments.batch_size, Augment(shift=2, fill="edge")),
        "shift-flip": feed(data, arguments.batch_size, Augment(shift=2, flip=True)),
        "warp": feed(data, arguments.batch_size, Warp()),
        "colour-crop-flip": feed(colour, arguments.batch_size, Augment(shift=4, flip=True)),
    }
    batch, colours = next(feeds["plain"](0)), next(feeds["colour-crop-flip"](0))
    steps = {
        "lenet-300-100": training_step(LeNet300100(), batch),
        "lenet-5": training_step(LeNet5Caffe(), batch),
        "resnet-20": training_step(CifarResNet(), colours),
    }
    turns: dict[str, list[float]] = {name: [] for name in (*feeds, *steps)}
    for number in range(-1, rounds):
        for name, make in feeds.items():
            keep(turns[name], number, lambda make=make, n=number + 1: drain(make(n)))
        for name, step in steps.items():
            count = 1 if name == "resnet-20" else BATCHES // 5
            keep(turns[name], number, lambda step=step, n=count: [step() for _ in range(n)])
    settings = {"rounds": rounds, "batch_size": arguments.batch_size}
    found = {"settings": settings, **measured(turns, list(feeds), list(steps))}
    record.write_result("data_path", about, found, folder=folders.results)
    for step, shares in found["share_of_step_percent"].items():
        print(step, {name: f"{share:.1f} %" for name, share in shares.items()})


def feed(
    data: TensorSet, batch_size: int, augment: Augmentation | None
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


def measured(
    turns: Mapping[str, Sequence[float]], feeds: Sequence[str], steps: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Milliseconds with their spread; the median over rounds of each feed's share of each step."""
    return {
        "ms": {name: record.summary(values) for name, values in turns.items()},
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
