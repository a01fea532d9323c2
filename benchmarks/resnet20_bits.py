"""ResNet-20 in few bytes: bytes against error, from one schedule of fine-tuning.

    python benchmarks/resnet20_bits.py [--nncodec PYTHON] [--prices 0.1 0.2 0.4 0.8] [--amp bf16] [--test]

The pretrained network is adapted to the images first; that is the original of all contestants.

* ``epigram-PRICE``: a bits pass without a structure pass, the adapted network as teacher. The KL weight, here called
  price, rises from one cycle of ``--epochs`` epochs to the next; each goes on with the symbols of the last one, and
  leaves a file.
* ``nncodec-QP``: the adapted network by NNCodec 2.1.3, with its defaults (trellis, vectors at qp -75).
* ``int8``: by torch's own quantisation after training (weights by channel, activations, 1 024 images of the fitted
  ones for their ranges), the state dict deflated.

Every file is decoded, and what comes out is judged on validation. The pretrained weights know these images
(docs/data.md), so ``--test`` reads the test set, once a contestant, after everything has been chosen.
``--zoo PRICE`` keeps the file of the median seed.

Every contestant is a cell of results/resnet20_bits.json; the same command measures what is missing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import int8_quantised
import numpy as np
import record
import resnet20_bits_picture
import torch
from cells import Cells, spreads, with_test_drop
from pack import by_nncodec
from preparing import (
    add_fresh,
    claimed,
    common_flags,
    drop_begun_by_other_code,
    guarded,
    prepare,
    quick_recipe,
    read_test,
    start_fresh,
    without_test,
)
from recovery import fewer
from torch import nn

from codec import Other
from epigram import artifact, atomic, codec, recipes
from epigram.config import to_dict
from epigram.convert import CodedNetwork, fold_normalisation
from epigram.data import batches
from epigram.pipeline import Recipe
from epigram.pipeline.bits import BitsLearner, shaped_as
from epigram.pipeline.contents import contents_of
from epigram.pipeline.files import decoded
from epigram.pipeline.job import Job
from epigram.pipeline.stages import plain_stage
from epigram.pipeline.verify import dense_bytes
from epigram.train import TrainSettings

RECIPE = "resnet20/cifar10-jpeg"
NAME = "resnet20_bits"
ZOO = "resnet20-cifar10-jpeg"
OURS, NNCODEC, INT8, ADAPTED = "epigram", "nncodec", "int8", "adapted"
QPS = (-24, -20, -16, -12)
BATCHES, BATCH = 8, 128
"""What int8 takes its ranges from."""
FIGURES = ("bytes", "ratio", "validation_accuracy", "points_below_adapted")
TEST_FIGURES = ("test_accuracy", "test_points_below_adapted")


def main() -> int:
    """Measure what is missing, write, draw, print."""
    arguments = parser().parse_args()
    folders = prepare(arguments)
    recipe = adjusted(arguments)
    cells = Cells(
        NAME,
        about=record.origin(seeds=arguments.seeds),
        settings={
            "recipe": RECIPE,
            "examples": len(recipe.load_data().fit),
            "plain": to_dict(recipe.settings.plain),
            "bits": to_dict(recipe.settings.bits),
            "coding": to_dict(recipe.settings.coding),
            "teacher_share": recipe.settings.teacher_share,
            "teacher_temperature": recipe.settings.teacher_temperature,
            "prices": arguments.prices,
        },
        planned=planned(arguments),
        folder=folders.results,
        summarise=summarised,
        fresh=arguments.fresh,
    )
    for key in cells.asked:
        contestant, _, seed = key.partition("/seed-")
        bench = Bench(recipe, int(seed), folders.runs / NAME / f"seed-{seed}", arguments)
        cells.measure(key, lambda bench=bench, name=contestant: bench.measure(name))  # type: ignore[misc]
    cells.write()
    picture = resnet20_bits_picture.draw(cells.done)
    atomic.write_bytes(folders.results / f"{NAME}.png", picture)
    if arguments.zoo is not None:
        zoo = folders.runs / "zoo" if arguments.quick else record.ROOT / "zoo"
        keep(cells.done, arguments.zoo, folders.runs / NAME, zoo)
    print(table(summarised(cells.done)["spread"]))
    return 0


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = common_flags(__doc__ or "", out="runs/bench-resnet20-bits", seeds=(0, 1, 2))
    add_fresh(flags)
    flags.add_argument("--test", action="store_true", help="read the test set, once a contestant")
    flags.add_argument(
        "--nncodec", metavar="PYTHON", help="that has NNCodec; without, it is left out"
    )
    flags.add_argument("--examples", type=int, default=40_000, help="fitted to, the first so many")
    flags.add_argument("--adapt", type=int, default=4, help="epochs")
    flags.add_argument("--prices", type=float, nargs="+", default=[0.1, 0.2, 0.4, 0.8])
    flags.add_argument("--epochs", type=int, default=6, help="of each price")
    flags.add_argument("--learning-rate", type=float, default=1e-3)
    flags.add_argument("--steps-per-std", type=float, default=8.0, help="of a tensor, at the start")
    flags.add_argument("--kernels", choices=("pixels", "cosine"), default="pixels")
    flags.add_argument("--amp", choices=("none", "bf16"), default="none")
    flags.add_argument("--zoo", type=float, metavar="PRICE", help="keep this price's file in zoo/")
    return flags


def adjusted(arguments: argparse.Namespace) -> Recipe:
    """The recipe with the epochs and images asked for."""
    recipe = fewer(without_test(recipes.get(RECIPE)), arguments.examples)
    found = recipe.settings
    plain = replace(found.plain, epochs=arguments.adapt, amp=arguments.amp)
    bits = TrainSettings(
        epochs=arguments.epochs,
        learning_rate=arguments.learning_rate,
        scale_lr_factor=3.0,
        final_factor=0.02,
        channels_last=True,
        amp=arguments.amp,
    )
    settings = replace(
        found,
        plain=plain,
        bits=bits,
        coding=replace(
            found.coding, steps_per_std=arguments.steps_per_std, kernels=arguments.kernels
        ),
        teacher_share=0.9,
        teacher_temperature=4.0,
    )
    recipe = replace(recipe, settings=settings)
    return quick_recipe(recipe) if arguments.quick else recipe


def planned(arguments: argparse.Namespace) -> list[str]:
    """All cells, a seed after the other."""
    names = [ADAPTED, *(f"{OURS}-{price:g}" for price in sorted(arguments.prices)), INT8]
    names += [f"{NNCODEC}-{qp}" for qp in QPS if arguments.nncodec]
    return [f"{name}/seed-{seed}" for seed in arguments.seeds for name in names]


class Bench:
    """One seed: the adapted network, and the files made of it.

    Args:
        recipe: network, data and settings.
        seed: of everything random.
        folder: holds a run folder per stage; finished ones are read.
        asked: the flags.
    """

    def __init__(self, recipe: Recipe, seed: int, folder: Path, asked: argparse.Namespace) -> None:
        self.recipe = recipe
        self.settings = replace(recipe.settings, seed=seed)
        self.folder, self.asked = folder, asked

    def measure(self, contestant: str) -> dict[str, Any]:
        """The figures of one cell."""
        with self.job(ADAPTED) as job:
            adapted = plain_stage(job)
            start = job.evaluate(adapted, job.splits.validation).accuracy
            size, model = self.made(contestant, adapted, job)
            worth = job.evaluate(model, job.splits.validation)
        figures = {
            "bytes": size,
            "ratio": round(dense_bytes(adapted) / size, 2),
            "validation_accuracy": worth.accuracy,
            "nll": worth.nll,
            "points_below_adapted": round(100 * (start - worth.accuracy), 3),
        }
        if self.asked.test:
            figures["test_accuracy"] = read_test(
                recipes.get(RECIPE),
                model,
                contestant=contestant,
                seed=self.settings.seed,
                file_bytes=size,
            )
        return figures

    def made(self, contestant: str, adapted: nn.Module, job: Job) -> tuple[int, nn.Module]:
        """Bytes, and the network that a reader of the file gets."""
        who, _, how = contestant.partition("-")
        if who == ADAPTED:
            return dense_bytes(adapted), adapted
        if who == OURS:
            return self.ours(float(how), adapted)
        if who == NNCODEC:
            return self.by_nncodec(int(how), adapted)
        stream = batches(
            job.splits.fit,
            batch_size=BATCH,
            seed=self.settings.seed,
            epoch=0,
            preprocess=self.recipe.preprocess,
        )
        few = [x for (x, _), _ in zip(stream, range(BATCHES), strict=False)]
        model = int8_quantised.quantised(adapted, few)
        return len(int8_quantised.zipped(model)), model

    def ours(self, price: float, adapted: nn.Module) -> tuple[int, nn.Module]:
        """Train at all prices up to this one, and write the file."""
        with self.job(OURS, prices=sorted(self.asked.prices)) as job:
            folded = fold_normalisation(adapted, job.example)
            coded = CodedNetwork(
                folded.network,
                settings=self.settings.coding,
                fixed=folded.fixed,
                settled=folded.settled,
            )
            shaped = shaped_as(job, coded, {})
            for each in sorted(self.asked.prices):
                if each <= price:
                    settings = replace(self.settings.bits, kl_weight=each)
                    coded.thaw_()
                    learner = BitsLearner(coded, job, shaped, adapted)
                    job.fit(learner, settings, f"bits-{each:g}")
            contents = contents_of(coded.eval(), shaped)
            names = list(shaped.dense_shapes)
            data = codec.encode(contents, profile=shaped.profile, state_names=names)
            atomic.write_bytes(self.folder / file_name(price), data)
            shapes = artifact.dense_shapes(job.build())
            return len(data), decoded(job, codec.decode(data, dense_shapes=shapes))

    def by_nncodec(self, qp: int, adapted: nn.Module) -> tuple[int, nn.Module]:
        """The adapted network by NNCodec, as it comes back."""
        state = {n: v.numpy().copy() for n, v in adapted.state_dict().items()}
        floats = {n: v for n, v in state.items() if v.dtype.kind == "f" and v.ndim}
        with tempfile.TemporaryDirectory() as place:
            np.savez(Path(place) / "in.npz", **floats)
            size, back = by_nncodec(Other(self.asked.nncodec), Path(place), floats, qp)
        model = self.recipe.build()
        model.load_state_dict({n: torch.from_numpy(back.get(n, v)) for n, v in state.items()})
        return size, model.eval()

    def job(self, name: str, **more: Any) -> Any:
        """A claimed folder of that name."""
        if self.asked.fresh:
            start_fresh(self.folder / name)
        drop_begun_by_other_code(self.folder / name)
        return claimed(self.recipe, self.settings, self.folder / name, **more)


def file_name(price: float) -> str:
    """Of our file, in the seed's folder."""
    return f"{OURS}-{price:g}.epg"


def keep(cells: Mapping[str, Any], price: float, runs: Path, zoo: Path) -> None:
    """The median seed's file of a price, and its figures, with the command that makes it."""
    found = {k: c for k, c in cells.items() if k.partition("/")[0] == f"{OURS}-{price:g}"}
    key, cell = sorted(found.items(), key=lambda item: item[1]["bytes"])[(len(found) - 1) // 2]
    seed = key.partition("/")[2]
    made = {
        "command": record.command_line(sys.argv),
        "median_of_seeds": [int(k.partition("/seed-")[2]) for k in found],
    }
    data = (runs / seed / file_name(price)).read_bytes()
    atomic.write_bytes(zoo / f"{ZOO}.epg", data)
    figures = {"made_by": made, "recipe": RECIPE, "seed": int(seed[5:]), "file_bytes": len(data)}
    original = cells[f"{ADAPTED}/{seed}"]
    for name, of in {"test_error_percent": cell, "dense_test_error_percent": original}.items():
        if "test_accuracy" in of:
            figures[name] = round(100 * (1 - of["test_accuracy"]), 3)
    figures |= {n: value for n, value in cell.items() if n not in ("bytes", "test_accuracy")}
    atomic.write_json(zoo / f"{ZOO}.json", figures)


def summarised(cells: Mapping[str, Any]) -> dict[str, Any]:
    """The spread over the seeds."""
    told = with_test_drop(cells, ADAPTED)
    figures = (*FIGURES, *TEST_FIGURES)
    return {"spread": spreads(told, figures, name=lambda key: key.partition("/")[0])}


def table(spread: Mapping[str, Any]) -> str:
    """A line per contestant."""
    lines = [f"{'':<16}{'bytes':>12}{'ratio':>8}{'validation %':>14}{'points below adapted':>22}"]
    for name, found in spread.items():
        test = found["test_points_below_adapted"]
        below = f"{found['points_below_adapted']['median']:.2f}"
        lines.append(
            f"{name:<16}{found['bytes']['median']:>12,.0f}{found['ratio']['median']:>8.1f}"
            f"{100 * found['validation_accuracy']['median']:>14.2f}{below:>22}"
            + (f"{test['median']:>8.2f} (test)" if test else "")
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(guarded(main))
