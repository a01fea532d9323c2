"""The bits pass: a small network is trained as the symbols of its file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from torch import nn

from epigram import artifact, codec
from epigram.convert import CodedNetwork, Twin, fold_normalisation
from epigram.pipeline.candidates import Candidate, Front
from epigram.pipeline.contents import Shaped, contents_of
from epigram.pipeline.files import Rung, decoded, margin_of, value_of
from epigram.pipeline.frames import pictured, write_frame
from epigram.pipeline.job import Job
from epigram.pipeline.stages import steer
from epigram.pipeline.teaching import distilled
from epigram.records import BoolArray, Floor
from epigram.train import BayesianLearner, EpochEnd, Schedule

STAGE: Final = "bits"


class BitsLearner(BayesianLearner):
    """A network of symbols, trained by the size of its file.

    The controller's memory and the files it passed are part of its checkpoint. Between the cycles of its schedule
    frozen symbols thaw: a cycle ends with symbols that have settled, and the next one may better them.

    Args:
        coded: the network of symbols.
        job: the run.
        shaped: what its file says beside the symbols.
        teacher: the original network.
        twin: the twin that it came from, for the pictures; None = it came from the plain network.
    """

    def __init__(
        self,
        coded: CodedNetwork,
        job: Job,
        shaped: Shaped,
        teacher: nn.Module,
        twin: Twin | None = None,
    ) -> None:
        super().__init__(
            coded,
            len(job.splits.fit),
            loss_fn=job.recipe.loss_fn,
            distillation=distilled(job, teacher, STAGE),
            on_epoch=self._look,
        )
        self.coded, self.job, self.shaped, self.source = coded, job, shaped, twin
        self.front = Front(job.floor or Floor("accuracy", 0.0))
        self.controller = job.controller("bits")
        self.kl_multiplier = job.first_multiplier("bits")
        self.schedule = Schedule(job.settings.bits, steps_per_epoch=1)
        self.freezing_rate = job.settings.coding.freezing_rate(0.0)
        self.shapes = pictured(job.build())

    def _look(self, end: EpochEnd) -> Mapping[str, Any]:
        """Say what the file would be now, keep it if it is worth it, and move the multiplier."""
        training = self.coded.training
        self.coded.eval()
        contents = contents_of(self.coded, self.shaped)
        rate_bits = float(self.coded.rate_bits().detach())
        self.coded.train(training)
        predicted = math.ceil(codec.size_estimate(contents, self.shaped.profile).total)
        names = list(self.shaped.dense_shapes)
        data = codec.encode(contents, profile=self.shaped.profile, state_names=names)
        told = {
            "predicted_bytes": predicted,
            "actual_bytes": len(data),
            "rate_bytes": round(rate_bits / 8.0, 1),
            "steps": {n: p.step for n, p in self.coded.parameters_by_name().items()},
        }
        metric = self.job.metric_in(end.control)
        if metric is not None:
            self.front.offer(
                Candidate(end.epoch, data=data, predicted_bytes=predicted, control=metric)
            )
        told |= {"frozen_share": round(self.coded.frozen_share(), 4)}
        cycle, done = self.schedule.cycle(end.epoch)
        ends = cycle > self.schedule.cycle(end.epoch - 1)[0]
        several = self.schedule.settings.cycles > 1
        told |= steer(self, end, predicted, cycle_ends=ends if several else None)
        self.freezing_rate = self.job.settings.coding.freezing_rate(done)
        if ends and end.epoch < end.epochs:
            self.coded.thaw_()
        if self.source is not None:
            plain = self.coded.plain()
            write_frame(self.job.folder, STAGE, end.epoch, self.source, self.shapes, values=plain)
        elif self._has_dense_shapes():
            write_frame(self.job.folder, STAGE, end.epoch, self.coded.plain(), self.shapes)
        return told

    def after_step(self, *, clamp: bool) -> None:
        super().after_step(clamp=clamp)
        self.coded.average_()
        self.coded.watch_(self.freezing_rate)

    def _has_dense_shapes(self) -> bool:
        shapes = {n: tuple(p.shape) for n, p in self.coded.network.named_parameters()}
        return all(shapes.get(name) == shape for name, shape in self.shapes.items())

    def state(self) -> dict[str, Any]:
        remembered = None if self.controller is None else self.controller.remembered
        return {
            **super().state(),
            "layout": self.coded.layout(),
            "front": self.front.state(),
            "remembered": remembered,
            "freezing_rate": self.freezing_rate,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self.coded.lay_out_(state["layout"])
        self.front.load(state["front"])
        self.freezing_rate = float(state["freezing_rate"])
        if self.controller is not None:
            self.controller.remembered = state["remembered"]


def bits_stage(job: Job, small: nn.Module, teacher: nn.Module, twin: Twin | None = None) -> Front:
    """Train the network of symbols; returns the files it passed on its way.

    Args:
        job: the run.
        small: where it starts, plain.
        teacher: the original network.
        twin: the twin that ``small`` came from; None = ``small`` is as large as the original.
    """
    settings = job.settings
    folded = fold_normalisation(small, job.example)
    live = {} if twin is None else twin.live_positions()
    coded = CodedNetwork(
        folded.network,
        live={name: mask for name, mask in live.items() if not mask.all()},
        settings=settings.coding,
        fixed=folded.fixed,
        settled=folded.settled,
    )
    shaped = shaped_as(job, coded, {} if twin is None else twin.kept_masks())
    learner = BitsLearner(coded, job, shaped, teacher, twin)
    job.fit(learner, settings.bits, STAGE)
    return learner.front


def replayed_bits(job: Job, plain: nn.Module) -> BitsLearner:
    """A learner to load a failed step into: its layout comes with the step."""
    coded = CodedNetwork(job.build(), settings=job.settings.coding)
    shaped = shaped_as(job, coded, {})
    return BitsLearner(coded, job, shaped, plain)


def shaped_as(job: Job, coded: CodedNetwork, dense_kept: Mapping[str, BoolArray]) -> Shaped:
    """What a file of the run says beside the symbols."""
    return Shaped.of(
        coded.plain().eval(),
        dense_shapes=artifact.dense_shapes(job.build()),
        dense_kept=dense_kept,
        example=job.example,
        profile=job.settings.profile,
        recipe=job.recipe.name,
    )


def choose_candidate(job: Job, front: Front) -> tuple[Rung, bool]:
    """The smallest file that holds the floor (or the best one within the budget), and whether it does.

    With a floor, validation judges the files that meet it on control, the smallest first, until one meets it there, too: what is
    returned meets it on both. They are few (``candidates.MOST``), and networks of one training, whose luck is much the same. Where
    control accepts none, the one that it likes best is the nearest.
    """
    assert job.floor is not None and front.kept
    files, floor = front.kept, job.floor
    if job.budget is not None:
        within = [c for c in files if c.size_bytes <= job.budget]
        best = max(within, key=lambda c: floor.margin(c.control)) if within else files[0]
        return _judged(job, best), bool(within)
    met = [c for c in files if floor.met(c.control)]
    best = max(files, key=lambda c: floor.margin(c.control))
    seen = []
    for candidate in met or [best]:
        seen.append(_judged(job, candidate))
        if floor.met(value_of(seen[-1])):
            return seen[-1], True
    return max(seen, key=lambda rung: margin_of(floor, rung)), False


def _judged(job: Job, candidate: Candidate) -> Rung:
    contents = codec.decode(candidate.data, dense_shapes=artifact.dense_shapes(job.build()))
    value = job.measure(job.splits.validation)(decoded(job, contents))
    return Rung(None, contents, candidate.predicted_bytes, candidate.control, value)
