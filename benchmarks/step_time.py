"""The time of a training step: the plain network, its twins, and a port of the published layers.

    python benchmarks/step_time.py [--rounds 15] [--batch-size 128] [--threads 1]

All of a network's contestants take turns within a round, and who begins changes from round to round, so
that other load on the machine falls on all of them. A ratio is the median over the rounds of the ratios
within a round. Nothing has been removed yet: these are the dearest steps of a run.

* ``plain``: the loop's step for the plain network, which is what training it here costs.
* ``plain-textbook``: the same network with zero_grad, backward and ``torch.optim.Adam`` as it comes.
* ``plain-fused``: the same with Adam's fused kernel, and nothing that is logged: the least it can cost.
* ``group-jeffreys``, ``group-horseshoe``: the loop's step for the twin: draws, KL, backward, clipping,
  optimiser, clamps.
* ``group-jeffreys-units``: without scales on pixels and positions. The plain network's first layer needs no
  gradient of its input, a scale on pixels does: 6 large products where plain has 2, instead of 4.
* ``group-jeffreys-tied``, ``group-jeffreys-tied-units``: the same two with tied variances: one factor for each
  output and one for each input.
* ``published``: ``published_layers.py`` in a textbook loop.

``allconv`` runs in bf16 with channels last, on noise for images (a step takes as long), with the loop's steps
alone.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any, Literal

import published_layers
import record
import torch
import torch.nn.functional as F
from preparing import common_flags, guarded, prepare
from torch import Tensor, nn

from epigram import recipes
from epigram.convert import PosteriorSettings, PriorName, bayesianize
from epigram.data import batches
from epigram.pipeline import Recipe
from epigram.train import BayesianLearner, Learner, PlainLearner, Schedule
from epigram.train.run import Run

Batch = tuple[Tensor, Tensor]
Step = Callable[[Tensor, Tensor], None]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network whose steps are timed.

    Attributes:
        recipe: where it and its settings come from.
        steps: how many make a round.
        published: the port of the published layers, if there is one.
        amp: precision of the forward pass.
        noise: shape of an example drawn at random; None = the recipe's data.
    """

    recipe: str
    steps: int
    published: Callable[[], published_layers.Published] | None = None
    amp: Literal["none", "bf16"] = "none"
    noise: tuple[int, ...] | None = None


NETWORKS = {
    "lenet-300-100": Subject(
        recipe="lenet-300-100/mnist", steps=40, published=published_layers.LeNet300100
    ),
    "lenet-5": Subject(recipe="lenet-5/mnist", steps=12, published=published_layers.LeNet5Caffe),
    "allconv": Subject(recipe="allconv/cifar10", steps=4, amp="bf16", noise=(3, 32, 32)),
}
PLAIN_STEPS = ("plain", "plain-textbook", "plain-fused")
UNITS = "group-jeffreys-units"
TIED, TIED_UNITS = "group-jeffreys-tied", "group-jeffreys-tied-units"
PRIORS: tuple[PriorName, ...] = ("group-jeffreys", "group-horseshoe")


def main() -> int:
    """Measure, write, print."""
    flags = common_flags(__doc__ or "", out="runs/bench-step-time")
    flags.add_argument("--rounds", type=int, default=15)
    flags.add_argument("--batch-size", type=int, default=128)
    flags.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    arguments = flags.parse_args()
    folders = prepare(arguments)
    about = record.origin(seeds=arguments.seeds)
    networks = {name: measure(name, arguments) for name in arguments.networks}
    settings = {"rounds": arguments.rounds, "batch_size": arguments.batch_size}
    record.write_result(
        "step_time", about, {"settings": settings, "networks": networks}, folder=folders.results
    )
    for name, figures in networks.items():
        show(name, figures)
    return 0


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One network: milliseconds a step and ratios to the two plain steps."""
    subject = NETWORKS[name]
    recipe = recipes.get(subject.recipe)
    torch.manual_seed(arguments.seeds[0])
    few, examples = some_batches(recipe, subject, arguments)
    steps_of = contestants(recipe, subject, few[0], examples)
    rounds, steps = (2, 2) if arguments.quick else (arguments.rounds, subject.steps)
    return summarised(in_turns(steps_of, few, rounds=rounds, steps=steps), steps)


def some_batches(
    recipe: Recipe, subject: Subject, arguments: argparse.Namespace
) -> tuple[list[Batch], int]:
    """Eight batches, and how many examples there are to fit."""
    size = arguments.batch_size
    if subject.noise is not None:
        shape, classes = (size, *subject.noise), 10
        drawn = [(torch.randn(shape), torch.randint(classes, (size,))) for _ in range(8)]
        return drawn, 8 * size
    fit = recipe.load_data().fit
    stream = batches(
        fit,
        batch_size=size,
        seed=arguments.seeds[0],
        epoch=0,
        preprocess=recipe.preprocess,
        drop_last=True,
    )
    return [batch for batch, _ in zip(stream, range(8), strict=False)], len(fit)


def contestants(recipe: Recipe, subject: Subject, batch: Batch, examples: int) -> dict[str, Step]:
    """Name -> one training step on a given batch."""
    settings = recipe.settings
    steps: dict[str, Step] = {}

    def loop(learner: Learner, stage: str) -> Step:
        train = replace(getattr(settings, stage), amp=subject.amp)
        learner.module.train()
        schedule = Schedule(train, -(-examples // train.batch_size))
        return Run(learner, train, schedule, torch.device("cpu")).step

    steps["plain"] = loop(PlainLearner(recipe.build()), "plain")
    if subject.published is not None:
        steps["plain-textbook"] = textbook(recipe.build())
        steps["plain-fused"] = textbook(recipe.build(), fused=True)
    posteriors: dict[str, PosteriorSettings] = {
        prior: replace(settings.posterior, prior=prior) for prior in PRIORS
    }
    posteriors[UNITS] = replace(posteriors["group-jeffreys"], positions=False)
    posteriors[TIED] = replace(posteriors["group-jeffreys"], variances="tied")
    posteriors[TIED_UNITS] = replace(posteriors[UNITS], variances="tied")
    for name, posterior in posteriors.items():
        twin = bayesianize(recipe.build(), batch[0][:2], settings=posterior)
        steps[name] = loop(BayesianLearner(twin, examples), "structure")
    if subject.published is not None:
        published = subject.published()
        steps["published"] = textbook(published, penalty=lambda: published.kl_nats() / examples)
    return steps


def textbook(
    model: nn.Module, *, penalty: Callable[[], Tensor] | None = None, fused: bool | None = None
) -> Step:
    """The loop of a tutorial."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), fused=fused)

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        if penalty is not None:
            loss = loss + penalty()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def in_turns(
    contestants: dict[str, Step], few: Sequence[Batch], *, rounds: int, steps: int
) -> dict[str, list[float]]:
    """Milliseconds a step of every contestant in every round; a round before the first warms up."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    for number in range(-1, rounds):
        for name in order:
            step, feed = contestants[name], cycle(few)
            begin = time.perf_counter()
            for _ in range(steps):
                step(*next(feed))
            if number >= 0:
                times[name].append(1e3 * (time.perf_counter() - begin) / steps)
        order = order[1:] + order[:1]
    return times


def summarised(times: dict[str, list[float]], steps: int) -> dict[str, Any]:
    """Medians and spread of times and of ratios within a round."""

    def ratios(base: str) -> dict[str, Any]:
        return {
            name: record.summary([a / b for a, b in zip(times[name], times[base], strict=True)])
            for name in times
            if name != base
        }

    return {
        "steps_per_round": steps,
        "ms": {name: record.summary(values) for name, values in times.items()},
        "relative_to": {base: ratios(base) for base in PLAIN_STEPS if base in times},
        "published_relative_to_ours": {
            prior: record.summary(
                [a / b for a, b in zip(times["published"], times[prior], strict=True)]
            )
            for prior in PRIORS
            if "published" in times
        },
    }


def show(network: str, figures: dict[str, Any]) -> None:
    """A table for a person: medians, and the range over the rounds."""
    bases = figures["relative_to"]
    print(f"\n{network:<26}{'ms a step':>10}" + "".join(f"{'to ' + b:>24}" for b in bases))
    for name, time_ in figures["ms"].items():
        cells = ""
        for ratios in bases.values():
            cells += f"{_range(ratios[name]) if name in ratios else '–':>24}"
        print(f"{name:<26}{time_['median']:>10.3f}{cells}")


def _range(ratio: dict[str, float]) -> str:
    return f"{ratio['median']:.2f}× ({ratio['min']:.2f}–{ratio['max']:.2f})"


if __name__ == "__main__":
    sys.exit(guarded(main))
