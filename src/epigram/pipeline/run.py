"""The one place that knows the order of the stages.

plain ─▶ twin ─▶ cut ─▶ fine-tune ─▶ bits pass or ladder of files ─▶ decode ─▶ test, once ─▶ report
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from epigram.config import split_bookkeeping
from epigram.convert import Twin, convertible_layers, masked_plain
from epigram.errors import ConfigError, FloorError
from epigram.goal import Goal
from epigram.pipeline.bits import bits_stage, choose_candidate
from epigram.pipeline.fallback import Found, larger
from epigram.pipeline.files import choose_file, holds, write_file
from epigram.pipeline.identity import describe_network, fingerprint
from epigram.pipeline.job import PLAIN, Job, ProgressChoice, environment, job_config
from epigram.pipeline.ordering import ordered
from epigram.pipeline.pictures import write_calibration, write_report_data
from epigram.pipeline.posterior import POSTERIOR, save_posterior
from epigram.pipeline.recipe import Recipe
from epigram.pipeline.results import (
    file_figures,
    finish,
    finished,
    identity_figures,
    pruning_figures,
)
from epigram.pipeline.reuse import last_weights, take_structure
from epigram.pipeline.settings import CompressSettings
from epigram.pipeline.stages import finetune_stage, network_in, plain_stage, structure_stage
from epigram.pipeline.verify import dense_bytes
from epigram.prune import Decision, Removabilities, choose_cut
from epigram.records import Floor
from epigram.structure import verify_removal
from epigram.structure.copying import copied
from epigram.train import RunFolder, deadline


def train_recipe(
    recipe: Recipe,
    settings: CompressSettings | None = None,
    folder: str | Path = "runs/train",
    *,
    progress: ProgressChoice = "auto",
    max_minutes: float | None = None,
) -> dict[str, Any]:
    """Train the plain network of a recipe; returns what ``result.json`` says.

    Raises:
        EpigramError: bad data, another run's folder, an interruption, a NaN; see the subclasses.
    """
    settings = settings or recipe.settings
    with _claimed(recipe, settings, Path(folder), None, progress, max_minutes) as (job, run):
        done = finished(job, PLAIN)
        if done is not None:
            return done
        plain = plain_stage(job)
        result = identity_figures(job, run) | {"dense_bytes": dense_bytes(plain)}
        if job.splits.test is not None:
            figures = job.evaluate(plain, job.splits.test)
            result |= {
                "dense_test_error_percent": figures.error_percent,
                "test_nll": figures.nll,
                "test_calibration_error": figures.calibration_error,
            }
            write_calibration(job, figures.bins)
        result["validation"] = job.evaluate(plain, job.splits.validation).figures()
        return finish(job, result)


def compress_recipe(
    recipe: Recipe,
    settings: CompressSettings | None = None,
    folder: str | Path = "runs/compress",
    *,
    floor: str | Floor | None = None,
    budget: int | None = None,
    max_drop: float | None = None,
    metric: str | None = None,
    from_folder: str | Path | None = None,
    force: bool = False,
    progress: ProgressChoice = "auto",
    max_minutes: float | None = None,
    keep_posterior: bool = False,
) -> dict[str, Any]:
    """The smallest file of a recipe that holds the floor; returns what ``result.json`` says.

    Called again with the same arguments, a run that was stopped or killed goes on; a finished one is
    read. ``result["floor"]["met"]`` says whether validation met the floor.

    Args:
        recipe: network and data.
        settings: of the run; None = the recipe's.
        folder: where everything goes.
        floor: what must be met; None = the recipe's.
        budget: instead: the best metric in so many bytes.
        max_drop: instead: how much worse than the plain network's the metric may be on validation.
        metric: of a budget or a drop, ``"nll"``; None = that of the recipe's floor, or accuracy. Of a metric of your own more
            is better, unless it is told as ``"name<="``.
        from_folder: take the plain network from this run; if it is a finished compression and its structure pass
            would be the same here (no floor steers it, or the same), that too.
        force: go on although the plain network misses the floor.
        progress: how to show progress; None = silently.
        max_minutes: end the run in order after so long.
        keep_posterior: save q(w) as ``posterior.safetensors``.

    Raises:
        FloorError: the plain network misses the floor, and ``force`` is not given.
        EpigramError: bad data, another run's folder, an interruption, a NaN; see the subclasses.
    """
    settings = settings or recipe.settings
    goal = Goal.of(
        floor if floor is not None else recipe.floor,
        budget,
        max_drop,
        metric=metric,
        named=floor is not None,
    )
    asked = goal.floor
    source = None if from_folder is None else Path(from_folder)
    check_layers(recipe)
    with _claimed(
        recipe, settings, Path(folder), asked, progress, max_minutes, source, goal=goal
    ) as (job, run):
        done = finished(job, "model.epg", *([POSTERIOR] if keep_posterior else []))
        if done is not None:
            return done
        clock = _Clock()
        plain = plain_stage(job, from_folder=source)
        job.resolve(goal, plain)
        if not goal.is_relative:
            _check_feasible(job, plain, force=force)
        job.compare_splits(plain)
        if source is not None:
            take_structure(job, source)
        twin, decision, seen, small = _structured(job, plain, clock, keep_posterior=keep_posterior)
        found = _file_of(job, small, plain, twin, clock)
        with clock("order"):
            rung = ordered(job, found.rung, met=found.met)
        with clock("write"):
            path = write_file(job, rung.contents)
        met = holds(job, rung, path)
        if not met and job.budget is None and settings.fall_back:
            job.check_time("fall back")
            with clock("fall back"):
                found = larger(job, replace(found, rung=rung, met=False), plain)
                if found.met:
                    rung, met = found.rung, True
                    path = write_file(job, rung.contents)
        with clock("verify"):
            result = identity_figures(job, run)
            result |= file_figures(job, plain, found.network, found.twin, rung, path, met=met)
            result["fallback"] = found.figures()
            write_report_data(job, twin, decision, seen, result.pop("_bins", None))
        if decision is not None:
            result["pruning"] = pruning_figures(decision)
        return finish(job, result, clock.seconds)


def _structured(
    job: Job, plain: nn.Module, clock: _Clock, *, keep_posterior: bool
) -> tuple[Twin | None, Decision | None, Removabilities, nn.Module]:
    """The structure pass with its cut and fine-tuning; without epochs, the plain network as it is."""
    if job.settings.structure.epochs == 0 and job.settings.bits.epochs > 0:
        if keep_posterior:
            raise ConfigError(
                "keep_posterior: there is no posterior without a structure pass; expected "
                "structure.epochs > 0"
            )
        return None, None, {}, copied(plain)
    twin, seen = structure_stage(job, plain)
    job.check_time("prune")
    with clock("prune"):
        decision, small = cut_stage(job, twin)
    if keep_posterior:
        save_posterior(twin, job.folder / POSTERIOR)
    return twin, decision, seen, finetune_stage(job, small, twin, plain)


def _file_of(
    job: Job, small: nn.Module, plain: nn.Module, twin: Twin | None, clock: _Clock
) -> Found:
    """The file, and whether it does what was asked: from the bits pass, or from the ladder."""
    if job.settings.bits.epochs > 0:
        front = bits_stage(job, small, plain, twin)
        job.check_time("choose")
        with clock("choose"):
            return Found(*choose_candidate(job, front), small, twin)
    assert twin is not None
    job.check_time("quantize")
    with clock("quantize"):
        return Found(*choose_file(job, small, twin), small, twin)


def check_recipe(recipe: Recipe, floor: Floor) -> None:
    """Refuse what cannot work before time is spent: layers, data, the floor's metric.

    Raises:
        EpigramError: no layer can be made variational, the data do not fit, or the metric is unknown.
    """
    check_layers(recipe)
    with torch.random.fork_rng(devices=[]):
        Job(recipe, recipe.settings, Path(), floor, None, None).check_floor()


def check_layers(recipe: Recipe) -> None:
    """Is there a layer to make variational?

    Raises:
        UnsupportedModelError: there is none.
    """
    with torch.random.fork_rng(devices=[]):
        convertible_layers(recipe.build())


def cut_stage(job: Job, twin: Twin) -> tuple[Decision, nn.Module]:
    """The cut, and the small plain network it leaves; the twin is shrunken.

    Raises:
        RemovalError: the small network does not compute what the masked one does.
    """
    assert job.floor is not None
    decision = choose_cut(twin, job.measure(job.splits.control), job.floor, job.settings.prune)
    masked = masked_plain(twin, decision.chosen.keep)
    twin.shrink_(decision.chosen.keep, tried=True)
    small = twin.plain().eval()
    verify_removal(small, masked, job.example)
    return decision, small


def _check_feasible(job: Job, plain: nn.Module, *, force: bool) -> None:
    assert job.floor is not None
    reached = job.measure(job.splits.validation)(plain)
    if not job.floor.met(reached) and not force:
        raise FloorError(
            f"floor: {job.floor} asks for more than the plain network reaches: "
            f"{job.floor.metric} {reached:g} on the validation split. Lower the floor or train the "
            f"plain network longer (in another folder; {job.folder} holds this plain network, so it "
            "can be started from), or go on all the same with force (--force)"
        )


def _last_weights(source: Path | None) -> dict[str, float]:
    if source is None:
        raise ConfigError("steer.warm: there is no run to begin from; expected --from RUN with it")
    return last_weights(source)


class _Clock:
    """Seconds spent in parts that do not train."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begin


@contextmanager
def _claimed(
    recipe: Recipe,
    settings: CompressSettings,
    folder: Path,
    floor: Floor | None,
    progress: ProgressChoice,
    max_minutes: float | None,
    plain_from: Path | None = None,
    goal: Goal | None = None,
) -> Iterator[tuple[Job, RunFolder]]:
    """A job in its folder, which is claimed while the block lasts; randomness is put back after."""
    stop: Callable[[], bool] | None = deadline(max_minutes)
    job = Job(recipe, settings, folder, floor, progress, stop)
    job.check_floor()
    if settings.steer.warm and floor is not None:
        job.warm = _last_weights(plain_from)
    described = job_config(
        recipe,
        settings,
        network=describe_network(job.build()),
        plain_from=None if plain_from is None else fingerprint(network_in(plain_from, job)),
        data={name: part["sha256"] for name, part in job.splits.describe().items()},
        floor=None if floor is None else str(goal or floor),
        **({"weights_from": job.warm} if job.warm else {}),
    )
    device = torch.device(settings.device)
    numpy_state = np.random.get_state()  # noqa: NPY002  (kept, not used)
    try:
        with (
            RunFolder(
                folder,
                described,
                bookkeeping=split_bookkeeping(settings)[1],
                environment=environment(),
            ) as run,
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        ):
            torch.manual_seed(settings.seed)
            yield job, run
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
