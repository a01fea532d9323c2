"""A training step with images' channels last in memory, and under bf16, against neither.

    python benchmarks/layout_time.py [--networks allconv/cifar10-jpeg ...] [--rounds 5]

The plain network's step and its twin's, batch 128, one thread. The four ways take turns within a round, and
who begins changes from round to round; a ratio is the median over the rounds of the ratios within a round.
Processor time, so that other load on the machine hardly counts. Networks that are not asked for stay in
results/layout_time.json as they were measured.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import record
import torch
from cells import Cells
from preparing import add_fresh, common_flags, guarded, prepare

from epigram import recipes
from epigram.convert import bayesianize
from epigram.data import batches
from epigram.train import BayesianLearner, Learner, PlainLearner, Schedule, TrainSettings
from epigram.train.run import Run

NETWORKS = ("allconv/cifar10-jpeg", "resnet20/cifar10-jpeg", "lenet-5/mnist")
KINDS = ("plain", "twin")
WAYS: Mapping[str, dict[str, Any]] = {
    "neither": {"channels_last": False, "amp": "none"},
    "channels last": {"channels_last": True, "amp": "none"},
    "bf16": {"channels_last": False, "amp": "bf16"},
    "both": {"channels_last": True, "amp": "bf16"},
}


def main() -> int:
    """Measure what is missing, write, print."""
    flags = common_flags(__doc__ or "", out="runs/bench-layout")
    add_fresh(flags)
    flags.add_argument("--networks", nargs="+", choices=recipes.names(), default=list(NETWORKS))
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument("--steps", type=int, default=2, help="in a round")
    arguments = flags.parse_args()
    if arguments.quick:
        arguments.rounds = arguments.steps = 1
        arguments.networks = arguments.networks[:1]
    folders = prepare(arguments)
    cells = Cells(
        "layout_time",
        about=record.origin(seeds=arguments.seeds),
        settings={"rounds": arguments.rounds, "steps": arguments.steps, "batch_size": 128},
        planned=arguments.networks,
        folder=folders.results,
        fresh=arguments.fresh,
    )
    for name in list(cells.planned):
        cells.measure(name, lambda name=name: one(name, arguments.rounds, arguments.steps))  # type: ignore[misc]
    cells.write()
    print(table(cells.done))
    return 0


def one(name: str, rounds: int, steps: int) -> dict[str, Any]:
    """Milliseconds a step and ratios of one network."""
    recipe = recipes.get(name)
    fit = recipe.load_data().fit
    stream = batches(fit, batch_size=128, seed=0, epoch=0, preprocess=recipe.preprocess)
    few = [batch for batch, _ in zip(stream, range(steps), strict=False)]
    runs = {}
    for kind, way in product(KINDS, WAYS):
        learner: Learner = PlainLearner(recipe.build())
        if kind == "twin":
            twin = bayesianize(recipe.build(), few[0][0][:2], settings=recipe.settings.posterior)
            learner = BayesianLearner(twin, len(fit))
        learner.module.train()
        settings = replace(TrainSettings(grad_clip=5.0), **WAYS[way])
        runs[f"{kind}, {way}"] = Run(
            learner, settings, Schedule(settings, 100), torch.device("cpu")
        )
    times: dict[str, list[float]] = {key: [] for key in runs}
    order = list(runs)
    for number in range(-1, rounds):  # the round before the first warms up
        for key in order:
            begin = time.process_time()
            for x, y in few:
                runs[key].step(x, y)
            if number >= 0:
                times[key].append(1e3 * (time.process_time() - begin) / steps)
        order = order[1:] + order[:1]
    return {
        "ms": {key: record.summary([round(t, 2) for t in values]) for key, values in times.items()},
        "share_of_neither": {
            f"{kind}, {way}": record.summary(
                [
                    round(a / b, 4)
                    for a, b in zip(times[f"{kind}, {way}"], times[f"{kind}, neither"], strict=True)
                ]
            )
            for kind, way in product(KINDS, WAYS)
        },
    }


def table(cells: Mapping[str, Any]) -> str:
    """A line per network and way."""
    lines = []
    for name, cell in cells.items():
        for key, share in cell["share_of_neither"].items():
            lines.append(
                f"{name:<26}{key:<24}{cell['ms'][key]['median']:>9.1f} ms"
                f"{share['median']:>8.2f} ({share['min']:.2f} to {share['max']:.2f})"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(guarded(main))
