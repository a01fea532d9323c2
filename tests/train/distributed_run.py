"""Run by ``torchrun`` in the tests: what each of two processes does. Prints one line of JSON per rank."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from epigram.convert import Twin, bayesianize
from epigram.data import TensorSet
from epigram.errors import EpigramError
from epigram.prune import PruneSettings, Shrinker
from epigram.train import (
    BayesianLearner,
    EpochEnd,
    PlainLearner,
    TrainSettings,
    fit,
    slice_optimizer_state_,
)

KEEP = np.array([True, False, True, True, False, True, True, True])


def data() -> TensorSet:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(101, 6, generator=generator, dtype=torch.float64)
    return TensorSet(x, x[:, :3].argmax(1), "synthetic")


def network(*, normalised: bool) -> nn.Module:
    norm = nn.BatchNorm1d(8) if normalised else nn.Identity()
    net = nn.Sequential(nn.Linear(6, 8), norm, nn.ReLU(), nn.Linear(8, 3))
    return net.double()


def settings(optimizer: str, epochs: int = 3) -> TrainSettings:
    return TrainSettings(
        epochs=epochs,
        batch_size=17,
        optimizer=optimizer,
        learning_rate=0.01,
        tensorboard=False,
        checkpoint_every_seconds=None,
        weight_decay=0.01,
    )


def plain(folder: Path) -> nn.Module:
    torch.manual_seed(0)
    net = network(normalised=False)
    fit(PlainLearner(net), data(), settings("sgd"), folder=folder, stage="p", seed=3, progress=None)
    return net


def shrinking(folder: Path, optimizer: str, *, stop_after: int | None = None) -> nn.Module:
    """A twin that loses units after its first epoch; both processes start from different weights."""
    torch.manual_seed(dist.get_rank() if dist.is_initialized() else 0)
    twin = bayesianize(network(normalised=True), torch.randn(2, 6, dtype=torch.float64))

    def on_epoch(end: EpochEnd) -> None:
        if end.epoch == 1:
            learner.shrink_({"0": KEEP}, optimizer=end.optimizer)

    learner = BayesianLearner(twin, 101, on_epoch=on_epoch)
    steps = iter(range(10_000))
    leads = not dist.is_initialized() or dist.get_rank() == 0
    fit(
        learner,
        data(),
        settings(optimizer),
        folder=folder,
        stage="s",
        seed=3,
        progress=None,
        control_set=data(),
        # only one of the processes asks
        stop=lambda: stop_after is not None and leads and next(steps) == stop_after,
    )
    return twin


def pictures() -> TensorSet:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(68, 1, 5, 5, generator=generator, dtype=torch.float64)
    return TensorSet(x, x[:, 0, 0, :3].argmax(1), "synthetic")


def deciding(folder: Path) -> Twin:
    """A convolutional twin of which the shrinker takes what is noise, with momentum to be cut along.

    Both processes start from different weights, and see different noise in different channels.
    """
    rank = dist.get_rank() if dist.is_initialized() else 0
    torch.manual_seed(rank)
    net = nn.Sequential(
        *(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(6, 3)),
    ).double()
    twin = bayesianize(net, torch.randn(2, 1, 5, 5, dtype=torch.float64))
    with torch.no_grad():
        for name, noisy in (("0", [1, 4]), ("3", [0, 5])):
            places = [n ^ rank for n in noisy]
            twin.scale(name).z_logvar[places] = 0.0
            twin.scale(name).z_mean[places] = 0.02
    shrinker = Shrinker("group-jeffreys", PruneSettings(shrink_patience=2))

    def on_epoch(end: EpochEnd) -> None:
        for cut in shrinker.step(twin):
            slice_optimizer_state_(end.optimizer, cut.parameter, cut.axis, cut.index)

    learner = BayesianLearner(twin, 68, on_epoch=on_epoch)
    wanted = settings("sgd", epochs=5)
    fit(learner, pictures(), wanted, folder=folder, stage="c", seed=3, progress=None)
    return twin


def disagreeing(folder: Path) -> str:
    torch.manual_seed(0)
    net = network(normalised=False)

    def on_epoch(end: EpochEnd) -> None:
        if dist.get_rank() == 1:
            net[0].bias.data[0] += 1e-9

    learner = PlainLearner(net, on_epoch=on_epoch)
    try:
        fit(learner, data(), settings("adam"), folder=folder, stage="d", seed=3, progress=None)
    except EpigramError as error:
        return str(error)
    return "nothing was noticed"


def numbers(module: nn.Module) -> dict[str, list[float]]:
    def listed(tensor: Tensor) -> list[float]:
        return tensor.detach().double().flatten().tolist()

    return {name: listed(tensor) for name, tensor in module.state_dict().items()}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    found = {
        "rank": dist.get_rank(),
        "plain": numbers(plain(folder / "plain")),
        "adamw": numbers(shrinking(folder / "adamw", "adamw")),
        "noise": torch.randn(3).tolist(),
    }
    decided = deciding(folder / "deciding")
    found["deciding"] = numbers(decided)
    found["left"] = {n: np.flatnonzero(mask).tolist() for n, mask in decided.kept_masks().items()}
    shrinking(folder / "stopped", "adamw", stop_after=8)
    found["resumed"] = numbers(shrinking(folder / "stopped", "adamw"))
    found["disagreeing"] = disagreeing(folder / "odd")
    (folder / f"rank-{dist.get_rank()}.json").write_text(json.dumps(found))
    dist.barrier()  # neither closes its connections while the other still uses them
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    # Once a process aborted ("terminate called without an active exception"), where was not found; what the
    # interpreter's end does to torch's threads is none of what is tested here.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
