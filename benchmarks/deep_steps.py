"""VGG-16 and ResNet-50 for some hundred steps: does the loss fall, do units leave, what does a step cost?

    python benchmarks/deep_steps.py [--networks vgg16-narrow resnet50-narrow vgg16 resnet50] [--seeds 0 1 2]

The narrow networks have an eighth of the width, so that two cores can do them; they are as deep. On 5 000
images: ``--plain`` steps of the plain network from random weights, then ``--steps`` of its twin at the
recipe's own settings for the structure stage, whose schedule is laid over these steps (KL warm-up, decay;
an *epoch* of the shrinking rule is a twentieth of them). The KL is weighted as heavily per image as 40 000 images would.
The full networks take a share of these steps, ``FULL`` says which.

Of each: NLL of the sampled network at the beginning and at the end, the first step that was not finite,
units left and when they left, milliseconds a step (plain, twin at first, twin at the end), and the largest
resident memory of the process, which is the cell's own. The same command measures the cells that are missing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import record
import torch
from cells import Cells, spreads
from preparing import add_fresh, common_flags, first, guarded, prepare, without_test
from torch import Tensor, nn

from epigram import recipes
from epigram.config import to_dict
from epigram.convert import Twin, bayesianize
from epigram.data import batches
from epigram.pipeline import Recipe
from epigram.prune import Shrinker
from epigram.recipes.convolutional import VGG16
from epigram.recipes.residual import CifarResNet50
from epigram.train import (
    BayesianLearner,
    Learner,
    PlainLearner,
    Schedule,
    TrainSettings,
    slice_optimizer_state_,
)
from epigram.train.run import Run

EXAMPLES, WEIGHED_AS, PERIODS = 5_000, 40_000, 20
NARROW: Mapping[str, tuple[str, Callable[[], nn.Module]]] = {
    "vgg16-narrow": ("vgg16/cifar10-jpeg", partial(VGG16, width=0.125, hidden=64)),
    "resnet50-narrow": ("resnet50/cifar10-jpeg", partial(CifarResNet50, width=0.125)),
}
FULL = {"vgg16": ("vgg16/cifar10-jpeg", 1 / 2), "resnet50": ("resnet50/cifar10-jpeg", 1 / 6)}
"""Recipe, and share of the steps."""
FIGURES = (
    "plain_nll",
    "nll_first",
    "nll_last",
    "units_left",
    "plain_step_ms",
    "twin_step_ms_first",
    "twin_step_ms_last",
    "peak_rss_mib",
)


def main() -> int:
    """Measure what is missing, write, print."""
    flags = common_flags(__doc__ or "", out="runs/bench-deep", seeds=(0, 1, 2))
    add_fresh(flags)
    flags.add_argument("--networks", nargs="+", choices=[*NARROW, *FULL], default=[*NARROW, *FULL])
    flags.add_argument("--plain", type=int, default=300, help="steps of the plain network")
    flags.add_argument("--steps", type=int, default=800, help="steps of the twin")
    flags.add_argument("--batch-size", type=int, default=32)
    flags.add_argument("--amp", choices=("none", "bf16"), default="none")
    flags.add_argument("--child", help=argparse.SUPPRESS)
    arguments = flags.parse_args()
    if arguments.quick:
        arguments.plain = arguments.steps = 4
        arguments.batch_size, arguments.networks = 4, arguments.networks[:1]
    if arguments.child:
        torch.set_num_threads(arguments.threads)
        print(json.dumps(one(arguments.child, arguments)))
        return 0
    folders = prepare(arguments)
    cells = Cells(
        "deep_steps",
        about=record.origin(seeds=arguments.seeds),
        settings={
            **{key: getattr(arguments, key) for key in ("plain", "steps", "batch_size", "amp")},
            "examples": EXAMPLES,
            "structure": to_dict(recipes.get("resnet50/cifar10-jpeg").settings.structure),
        },
        planned=cells_of(arguments.networks, arguments.seeds),
        folder=folders.results,
        summarise=lambda done: {"networks": summarised(done)},
        fresh=arguments.fresh,
    )
    everything = cells_of([*NARROW, *FULL], arguments.seeds)
    cells.planned += [key for key in everything if key not in cells.planned]
    for key in cells.asked:
        cells.measure(key, partial(in_a_child, key))
    cells.write()
    print(table(summarised(cells.done)))
    return 0


def cells_of(networks: Sequence[str], seeds: Sequence[int]) -> list[str]:
    """Every network at every seed."""
    return [f"{name}/seed-{seed}" for seed in seeds for name in networks]


def in_a_child(key: str) -> dict[str, Any]:
    """One cell in a process of its own, so that its peak memory is its own.

    Raises:
        CalledProcessError: it failed; what it said is on the screen.
    """
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--child", key],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def one(key: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Plain steps, then the twin's."""
    name, _, seed = key.partition("/seed-")
    of, share = FULL[name] if name in FULL else (NARROW[name][0], 1.0)
    recipe = without_test(recipes.get(of))
    torch.manual_seed(int(seed))
    model = recipe.build() if name in FULL else NARROW[name][1]()
    feed = images(recipe, int(seed), arguments.batch_size)
    plain_steps, steps = (max(1, int(share * n)) for n in (arguments.plain, arguments.steps))
    common = {"epochs": 1, "batch_size": arguments.batch_size, "amp": arguments.amp}
    plain = replace(recipe.settings.plain, **common, lr_warmup_epochs=0.1)
    before = peak_mib()
    nll, plain_ms = steps_of(PlainLearner(model), plain, plain_steps, feed)
    twin = bayesianize(model, next(feed)[0][:2], settings=recipe.settings.posterior)
    settings = recipe.settings.structure
    warm = {
        f"{of}_warmup_epochs": getattr(settings, f"{of}_warmup_epochs") / settings.epochs
        for of in ("lr", "kl")
    }
    weight = EXAMPLES / WEIGHED_AS
    settings = replace(settings, **common, **warm, kl_weight=weight)
    units = sum(total for _, total in twin.units_kept().values())
    parameters = twin.effective_parameters()
    left: list[int] = []
    learner = BayesianLearner(twin, EXAMPLES)
    shrinker = Shrinker(recipe.settings.posterior.prior, recipe.settings.prune)
    sampled, twin_ms = steps_of(learner, settings, steps, feed, shrinker=shrinker, left=left)
    broken = next((i + 1 for i, v in enumerate(sampled) if not math.isfinite(v)), None)
    tenth = max(1, steps // 10)
    return {
        "seed": int(seed),
        "first_step_not_finite": broken,
        "plain_nll": mean(nll[-max(1, plain_steps // 10) :]),
        "nll_first": mean(sampled[:tenth]),
        "nll_last": mean(sampled[-tenth:]),
        "nll": [mean(sampled[i : i + tenth]) for i in range(0, len(sampled), tenth)],
        "units": units,
        "units_left": sum(kept for kept, _ in twin.units_kept().values()),
        "units_left_by_period": left,
        "least_share_left_in_a_group": min(k / n for k, n in twin.units_kept().values()),
        "parameters": parameters,
        "parameters_left": twin.effective_parameters(),
        "plain_step_ms": round(statistics.median(plain_ms), 2),
        "twin_step_ms_first": round(statistics.median(twin_ms[:tenth]), 2),
        "twin_step_ms_last": round(statistics.median(twin_ms[-tenth:]), 2),
        "peak_rss_mib_with_data_alone": before,
        "peak_rss_mib": peak_mib(),
    }


def peak_mib() -> float:
    """The largest resident memory of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def mean(values: list[float]) -> float | None:
    """Rounded; None where one of them is not finite."""
    found = statistics.fmean(values)
    return round(found, 4) if math.isfinite(found) else None


def images(recipe: Recipe, seed: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Training batches, epoch after epoch."""
    fit = first(recipe.load_data().fit, EXAMPLES)
    for epoch in count():
        yield from batches(
            fit,
            batch_size=batch_size,
            seed=seed,
            epoch=epoch,
            preprocess=recipe.preprocess,
            augment=recipe.augment,
            drop_last=True,
        )


def steps_of(
    learner: Learner,
    settings: TrainSettings,
    steps: int,
    feed: Iterator[tuple[Tensor, Tensor]],
    *,
    shrinker: Shrinker | None = None,
    left: list[int] | None = None,
) -> tuple[list[float], list[float]]:
    """NLL and processor milliseconds of every step, until one is not finite.

    Processor time, not the clock's: another load on the machine does not count.
    """
    module: nn.Module = learner.module
    run = Run(learner, settings, Schedule(settings, steps), torch.device("cpu"))
    module.train()
    nll, ms = [], []
    period = max(1, steps // PERIODS)
    for step in range(steps):
        x, y = next(feed)
        begin = time.process_time()
        parts = run.forward(x, y)
        norm = run.backward(parts)
        run.update(parts, norm)
        nll.append(float(parts.nll) + 0.0 * float(norm))  # a norm that is not finite shows here
        ms.append(1e3 * (time.process_time() - begin))
        if not math.isfinite(nll[-1]):
            break
        if shrinker is not None and left is not None and (step + 1) % period == 0:
            assert isinstance(module, Twin)
            for cut in shrinker.step(module):
                slice_optimizer_state_(run.optimizer, cut.parameter, cut.axis, cut.index)
            run.lay_out_()
            left.append(sum(kept for kept, _ in module.units_kept().values()))
    return nll, ms


def summarised(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Per network: how many broke, and the spread of the figures."""
    found = spreads(cells, FIGURES, name=lambda key: key.partition("/")[0])
    for name, spread in found.items():
        ended = [c["first_step_not_finite"] for k, c in cells.items() if k.startswith(f"{name}/")]
        spread["seeds"], spread["broken"] = len(ended), [s for s in ended if s is not None]
        spread["units"] = next(c["units"] for k, c in cells.items() if k.startswith(f"{name}/"))
    return found


def table(networks: Mapping[str, Any]) -> str:
    """A line per network."""
    lines = [f"{'':<18}{'broken':>9}{'NLL':>16}{'units left':>16}{'ms plain, twin':>22}{'MiB':>8}"]
    for name, found in networks.items():
        at = {key: found[key] and found[key]["median"] for key in FIGURES}
        nll = "–" if at["nll_last"] is None else f"{at['nll_first']:.2f} → {at['nll_last']:.2f}"
        units = f"{at['units_left']:.0f} of {found['units']}"
        step = f"{at['plain_step_ms']:.0f}, {at['twin_step_ms_first']:.0f}"
        broken = f"{len(found['broken'])} of {found['seeds']}"
        lines.append(
            f"{name:<18}{broken:>9}{nll:>16}{units:>16}{step:>22}{at['peak_rss_mib']:>8.0f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(guarded(main))
