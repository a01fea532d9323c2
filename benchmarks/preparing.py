"""What the benchmarks have in common before they measure: flags, folders, and recipes made small."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from record import RESULTS, ROOT, record_test_read
from torch import nn

from epigram.data import Splits, TensorSet
from epigram.errors import EpigramError
from epigram.evaluate import evaluate
from epigram.pipeline import CompressSettings, Recipe
from epigram.pipeline.job import Job, ProgressChoice, environment, job_config
from epigram.pipeline.source import code
from epigram.train import RunFolder, keep_freed_memory

INTERRUPTED = 130
_QUICK_PART = 500


@dataclass(frozen=True)
class Folders:
    """Where a benchmark writes.

    Attributes:
        runs: run folders, not part of the repository.
        results: JSON and pictures.
    """

    runs: Path
    results: Path


def common_flags(
    document: str, *, out: str, seeds: Sequence[int] = (0,)
) -> argparse.ArgumentParser:
    """A parser with the flags every benchmark has: seeds, threads, folder, quick.

    Args:
        document: the script's docstring.
        out: the default run folder, relative to the repository.
        seeds: the default seeds.
    """
    parser = argparse.ArgumentParser(
        description=document, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--out", type=Path, help=f"run folders (default {out})")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a smoke run of seconds; its results go to a temporary folder (or to --out)",
    )
    parser.set_defaults(default_out=out)
    return parser


def add_fresh(flags: argparse.ArgumentParser) -> None:
    """The flag of benchmarks that go on with their run folders."""
    flags.add_argument(
        "--fresh",
        action="store_true",
        help="delete these runs first; needed when settings have changed",
    )


def start_fresh(folder: Path) -> None:
    """Delete a run's folder, and nothing that is not one."""
    if (folder / "config.json").is_file():
        shutil.rmtree(folder)


def prepare(arguments: argparse.Namespace) -> Folders:
    """Set the threads, choose the folders, and let SIGTERM end what was started."""
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # as the command line does; for every contestant alike
    signal.signal(signal.SIGTERM, _terminated)
    if arguments.quick:
        runs = arguments.out or Path(tempfile.mkdtemp(prefix="epigram-benchmark-"))
        print(f"a smoke run, its figures mean nothing; they go to {runs}", file=sys.stderr)
        return Folders(runs, runs / "results")
    return Folders(arguments.out or ROOT / arguments.default_out, RESULTS)


def guarded(main: Callable[[], int]) -> int:
    """``main``'s exit code; an error of ours is one line and its own code, Ctrl-C is 130."""
    try:
        return main()
    except EpigramError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return INTERRUPTED


def _terminated(number: int, frame: FrameType | None) -> None:
    del frame
    sys.exit(128 + number)


@contextmanager
def claimed(
    recipe: Recipe,
    settings: CompressSettings,
    folder: Path,
    *,
    progress: ProgressChoice = "auto",
    **more: Any,
) -> Iterator[Job]:
    """A job for single stages in a folder of its own; a folder of other settings is refused.

    Args:
        recipe: network and data.
        settings: of the run.
        folder: claimed while the block lasts.
        progress: how to show it.
        more: whatever else makes the run what it is.
    """
    job = Job(recipe, settings, folder, None, progress, None)
    data = {name: part["sha256"] for name, part in job.splits.describe().items()}
    config = job_config(recipe, settings, data=data, **more)
    with RunFolder(folder, config, environment=environment()), torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        yield job


def drop_begun_by_other_code(folder: Path) -> None:
    """Begin a run anew that other code began; it could not go on to the bit.

    For benchmarks that keep finished figures in the results (``cells.py``), where nothing is lost by it.
    """
    path = folder / "config.json"
    if path.is_file() and json.loads(path.read_text("utf-8"))["config"].get("code") != code():
        print(f"{folder}: begun by other code, begins anew", file=sys.stderr)
        start_fresh(folder)


def without_test(recipe: Recipe) -> Recipe:
    """The recipe with no test set, so that nothing can read it."""
    load = recipe.load_data
    return replace(recipe, load_data=lambda: replace(load(), test=None))


def quick_recipe(recipe: Recipe) -> Recipe:
    """The recipe on a few images for a few epochs; its *test* images are training images."""
    return replace(
        recipe,
        load_data=_quick_data(recipe.load_data),
        settings=quick_settings(recipe.settings),
        floor="accuracy>=0.2",
    )


def quick_settings(settings: CompressSettings) -> CompressSettings:
    """The same settings for two epochs a stage."""
    return replace(
        settings,
        plain=replace(settings.plain, epochs=2),
        structure=replace(settings.structure, epochs=2, kl_warmup_epochs=1.0),
        finetune=replace(settings.finetune, epochs=1),
        prune=replace(settings.prune, candidates=3),
        quantize=replace(settings.quantize, trials=2, sweeps=1, order_tries=5),
        bits=replace(settings.bits, epochs=2 if settings.bits.epochs else 0, kl_warmup_epochs=1.0),
    )


def first(data: TensorSet, examples: int, *, skip: int = 0, name: str | None = None) -> TensorSet:
    """So many examples of a set, in its order (MNIST mixes its classes already)."""
    return data.subset(torch.arange(skip, min(skip + examples, len(data))), name=name)


def _quick_data(load: Callable[[], Splits]) -> Callable[[], Splits]:
    def small() -> Splits:
        splits = load()
        fit, n = splits.fit, _QUICK_PART
        return Splits(
            first(fit, 2 * n),
            first(splits.control, n),
            first(splits.validation, n),
            None if splits.test is None else first(fit, n, skip=2 * n, name="not the test set"),
        )

    return small


def read_test(
    recipe: Recipe, model: nn.Module, *, contestant: str, seed: int, **figure: Any
) -> float:
    """A contestant's accuracy on the recipe's test set; the reading is logged.

    Args:
        recipe: with its test set.
        model: plain, on preprocessed inputs.
        contestant: whose network it is.
        seed: of the run.
        figure: what else the log says of it.
    """
    data = recipe.load_data().test
    assert data is not None
    accuracy = evaluate(model, data, preprocess=recipe.preprocess).accuracy
    figure["test_error_percent"] = round(100 * (1 - accuracy), 3)
    record_test_read(recipe=f"{recipe.name} {contestant}", seed=seed, figure=figure)
    return accuracy
