"""What a deep Bayesian network needs: ResNet-20 without one thing at a time, for some hundred steps.

    python benchmarks/depth_ablation.py [--seeds 0 1 2] [--steps 200] [--batch-size 32] [--amp bf16]

Twenty layers on the first 5 000 images. One factor is changed at a time, everything else is as it is: the
pretrained start, where log-variances start, the step size of log-variances and scales, the KL's warm-up,
the side of a layer its scale acts on, scales shared by all who read a unit, clamps, clipping. ``as in the
notebook`` changes all of them at once. The KL is weighted as heavily per image as 40 000 images would. Of each: NLL
of the sampled network on the images trained on (mean of the last tenth of the steps), accuracy of the
posterior mean on 2 000 control images, the first step that was not finite, gradient norms, KL, removability.

The test set is not there at all. The same command measures the cells that are missing.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
import record
import torch
from cells import Cells, spreads
from preparing import add_fresh, common_flags, first, guarded, prepare, without_test
from torch import Tensor, nn

from epigram import recipes
from epigram.config import to_dict
from epigram.convert import PosteriorSettings, Twin, bayesianize
from epigram.data import Splits, batches
from epigram.evaluate import evaluate
from epigram.layers import ScaleUse, VariationalLayer
from epigram.layers.conv import VariationalConv2d
from epigram.pipeline import Recipe
from epigram.priors import GroupJeffreys
from epigram.train import BayesianLearner, Schedule, TrainSettings
from epigram.train.run import Run

PRETRAINED, RANDOM = "resnet20/cifar10-jpeg", "resnet20-scratch/cifar10-jpeg"
AS_IT_IS = "as it is"
EXAMPLES, JUDGED, WEIGHED_AS = 5_000, 2_000, 40_000
FIGURES = (
    "nll_at_the_end",
    "control_accuracy",
    "largest_grad_norm",
    "share_of_steps_clipped",
    "kl_nats_per_weight",
    "units_beyond_1",
)


@dataclass(frozen=True)
class Variant:
    """One network and how it is trained.

    Attributes:
        recipe: where the weights come from.
        posterior: where the posterior starts, and its bounds.
        train: how it is trained.
        rebuild: changes the twin: where its scales act.
    """

    recipe: str = PRETRAINED
    posterior: PosteriorSettings = field(default_factory=PosteriorSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    rebuild: Callable[[Twin], None] | None = None


def main() -> int:
    """Measure what is missing, write, print."""
    flags = common_flags(__doc__ or "", out="runs/bench-depth", seeds=(0, 1, 2))
    add_fresh(flags)
    flags.add_argument("--steps", type=int, default=200)
    flags.add_argument("--batch-size", type=int, default=32)
    flags.add_argument("--amp", choices=("none", "bf16"), default="none")
    arguments = flags.parse_args()
    if arguments.quick:
        arguments.steps, arguments.batch_size = 4, 8
    folders = prepare(arguments)
    found = variants(base_settings(arguments))
    cells = Cells(
        "depth_ablation",
        about=record.origin(seeds=arguments.seeds),
        settings={
            "steps": arguments.steps,
            "examples": EXAMPLES,
            "structure": to_dict(found[AS_IT_IS].train),
            "posterior": to_dict(found[AS_IT_IS].posterior),
        },
        planned=[f"{name}/seed-{seed}" for seed in arguments.seeds for name in found],
        folder=folders.results,
        summarise=lambda done: {"variants": summarised(done)},
        fresh=arguments.fresh,
    )
    loaded: dict[str, Splits] = {}
    for key in cells.asked:
        name, _, seed = key.partition("/seed-")
        work = lambda name=name, seed=seed: one(found[name], int(seed), arguments, loaded)  # noqa: E731
        cells.measure(key, work)
    cells.write()
    print(table(summarised(cells.done)))
    return 0


def base_settings(arguments: argparse.Namespace) -> TrainSettings:
    """The recipe's structure stage, its epochs replaced by one long one of so many steps."""
    return replace(
        recipes.get(PRETRAINED).settings.structure,
        epochs=1,
        batch_size=arguments.batch_size,
        amp=arguments.amp,
        lr_warmup_epochs=0.05,
        kl_warmup_epochs=0.25,
        kl_weight=EXAMPLES / WEIGHED_AS,
    )


def variants(base: TrainSettings) -> dict[str, Variant]:
    """Everything that is compared, by name."""
    posterior = recipes.get(PRETRAINED).settings.posterior
    loose = dict.fromkeys(f"{of}logvar_{end}" for of in ("", "scale_") for end in ("min", "max"))
    unbounded, plain = replace(posterior, **loose), replace(posterior, prior="unit")  # type: ignore[arg-type]
    slow = replace(base, logvar_lr_factor=1.0, scale_lr_factor=1.0)
    whole = Variant(posterior=posterior, train=base)
    return {
        AS_IT_IS: whole,
        "random start": replace(whole, recipe=RANDOM),
        "variances start at e⁻³": replace(whole, posterior=replace(posterior, logvar_init=-3.0)),
        "one step size for all": replace(whole, train=slow),
        "no KL warm-up": replace(whole, train=replace(base, kl_warmup_epochs=0.0)),
        "scales on the output side": replace(whole, posterior=plain, rebuild=on_the_output_side_),
        "a scale of its own for each reader": replace(whole, posterior=plain, rebuild=not_shared_),
        "no clamps": replace(whole, posterior=unbounded, train=replace(base, clamp=False)),
        "no clipping": replace(whole, train=replace(base, grad_clip=None)),
        "as in the notebook": Variant(
            recipe=RANDOM,
            posterior=replace(plain, logvar_init=-9.0, **loose),  # type: ignore[arg-type]
            train=replace(
                slow, kl_warmup_epochs=0.0, lr_warmup_epochs=0.0, grad_clip=None, clamp=False
            ),
            rebuild=on_the_output_side_,
        ),
    }


class ScalesAnywhere(BayesianLearner):
    """Scales have their step size wherever in the twin they are."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        roles: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self.module.named_parameters():
            scale = ".scale." in name or name.startswith("scales.")
            role = "scale" if scale else "logvar" if name.endswith("_logvar") else "mean"
            roles.setdefault(role, []).append(parameter)
        return [{"params": roles[role], "role": role} for role in sorted(roles)]


class OutputScaled(nn.Module):
    """A convolution whose output channels are multiplied by scales of their own, as older code had it."""

    def __init__(self, layer: VariationalConv2d) -> None:
        super().__init__()
        self.layer = layer
        self.scale = GroupJeffreys(layer.out_channels, logvar_init=-4.0)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        factor = self.scale.draw(len(x)) if self.training else self.scale.mean()[None]
        return y * factor.to(y.dtype)[:, :, None, None]


def on_the_output_side_(twin: Twin) -> None:
    """Every convolution of a twin without scales gets scales on its own output channels."""
    for parent in list(twin.network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, VariationalConv2d) and not isinstance(parent, OutputScaled):
                setattr(parent, name, OutputScaled(child))


def not_shared_(twin: Twin) -> None:
    """Every layer of a twin without scales gets scales on its own input channels."""
    for layer in twin.modules():
        if isinstance(layer, VariationalLayer):
            layer.scale = GroupJeffreys(layer.weight_mean.shape[1], logvar_init=-4.0)
            layer.scale_uses = [ScaleUse(layer.scale)]


def one(
    variant: Variant, seed: int, arguments: argparse.Namespace, loaded: dict[str, Splits]
) -> dict[str, Any]:
    """One cell."""
    recipe = without_test(recipes.get(variant.recipe))
    splits = loaded.setdefault(PRETRAINED, recipe.load_data())
    splits = replace(splits, fit=first(splits.fit, EXAMPLES), control=first(splits.control, JUDGED))
    torch.manual_seed(seed)
    feed = endless(recipe, splits, seed, arguments.batch_size)
    twin = bayesianize(recipe.build(), next(feed)[0][:2], settings=variant.posterior)
    if variant.rebuild is not None:
        variant.rebuild(twin)
    twin.train()
    learner = ScalesAnywhere(twin, EXAMPLES)
    run = Run(learner, variant.train, Schedule(variant.train, arguments.steps), torch.device("cpu"))
    nll, norms, kl = [], [], math.nan
    broken = None
    for step in range(arguments.steps):
        parts = run.forward(*next(feed))
        norm = run.backward(parts)
        run.update(parts, norm)
        nll.append(float(parts.nll))
        norms.append(float(norm))
        kl = float(parts.kl_nats) if parts.kl_nats is not None else math.nan
        if not math.isfinite(nll[-1] + norms[-1] + kl):
            broken = step + 1
            break
    return {
        "seed": seed,
        "first_step_not_finite": broken,
        **(figures(recipe, splits, twin, kl, nll, norms, variant) if broken is None else {}),
    }


def endless(
    recipe: Recipe, splits: Splits, seed: int, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Training batches, epoch after epoch."""
    for epoch in count():
        yield from batches(
            splits.fit,
            batch_size=batch_size,
            seed=seed,
            epoch=epoch,
            preprocess=recipe.preprocess,
            augment=recipe.augment,
            drop_last=True,
        )


def figures(
    recipe: Recipe,
    splits: Splits,
    twin: Twin,
    kl: float,
    nll: list[float],
    norms: list[float],
    variant: Variant,
) -> dict[str, Any]:
    """Of a network that is whole."""
    weights = sum(
        layer.weight_mean.numel() for layer in twin.modules() if isinstance(layer, VariationalLayer)
    )
    scales = [m for m in twin.modules() if isinstance(m, GroupJeffreys)]
    log_alpha = torch.cat([scale.removability().detach() for scale in scales]).numpy()
    clip = variant.train.grad_clip
    tenth = max(1, len(nll) // 10)
    return {
        "nll_at_the_end": statistics.fmean(nll[-tenth:]),
        "nll": [round(statistics.fmean(part), 4) for part in np.array_split(nll, 10) if len(part)],
        "control_accuracy": evaluate(twin, splits.control, preprocess=recipe.preprocess).accuracy,
        "median_grad_norm": statistics.median(norms),
        "largest_grad_norm": max(norms),
        "share_of_steps_clipped": statistics.fmean(n > clip for n in norms) if clip else None,
        "kl_nats_per_weight": kl / weights,
        "units": len(log_alpha),
        "units_beyond_1": int((log_alpha > 1.0).sum()),
        "median_removability": float(np.median(log_alpha)),
    }


def summarised(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Per variant: how many broke, and the spread of the rest."""
    found = spreads(cells, FIGURES, name=lambda key: key.partition("/")[0])
    for name, spread in found.items():
        steps = [c["first_step_not_finite"] for k, c in cells.items() if k.startswith(f"{name}/")]
        spread["seeds"], spread["broken"] = len(steps), [s for s in steps if s is not None]
    return found


def table(variants: Mapping[str, Any]) -> str:
    """A line per variant."""
    lines = [
        f"{'':<36}{'broken':>8}{'NLL':>8}{'control %':>11}{'largest norm':>14}{'KL/weight':>11}"
    ]
    for name, found in variants.items():
        broken = f"{len(found['broken'])} of {found['seeds']}"
        values = [found[key] and found[key]["median"] for key in FIGURES]
        if values[0] is None:
            lines.append(f"{name:<36}{broken:>8}")
            continue
        nll, accuracy, norm, _, kl, _ = values
        lines.append(
            f"{name:<36}{broken:>8}{nll:>8.3f}{100 * accuracy:>11.2f}{norm:>14.2f}{kl:>11.3f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(guarded(main))
