"""Where the small network misses the floor: larger files that may hold it, down to the plain network, coded.

The plain network holds its floor (a run that asks for more ends before it begins), so some file does. Units that
are gone do not come back, and where a structure pass went too far for a floor, no price of bits makes up for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from torch import nn

from epigram import codec
from epigram.convert import Twin
from epigram.pipeline.files import Rung, choose_file, decoded, margin_of, value_of
from epigram.pipeline.job import Job
from epigram.pipeline.packing import pack
from epigram.records import FileContents
from epigram.structure import state_tensors


@dataclass(frozen=True, eq=False)
class Found:
    """A file, and the network in it.

    Attributes:
        rung: the file.
        met: does validation hold what was asked?
        network: whose values it has.
        twin: the twin that the network came from; None = it is as large as the plain network.
        instead_of: the smaller file that missed the floor; None = it is that of the small network.
        named: what the network is, in words.
    """

    rung: Rung
    met: bool
    network: nn.Module
    twin: Twin | None
    instead_of: Rung | None = None
    named: str = "the small network"

    def figures(self) -> dict[str, object] | None:
        """What ``result.json`` says of a file that took another's place; None = none did."""
        if self.instead_of is None:
            return None
        return {
            "network": self.named,
            "instead_of_bytes": self.instead_of.predicted_bytes,
            "its_control_value": self.instead_of.control,
            "its_validation_value": self.instead_of.validation,
        }


def larger(job: Job, missed: Found, plain: nn.Module) -> Found:
    """The first larger file that holds the floor, or what was there: the plain network may miss it, too (``force``)."""
    assert job.floor is not None
    floor, rung = job.floor, missed.rung
    if not floor.met(job.measure(job.splits.validation)(plain)):
        return missed
    for found in _attempts(job, missed, plain):
        if found.met:
            job.say(
                f"{floor} is missed by the smallest file ({value_of(rung):g} on validation, {rung.predicted_bytes} bytes); "
                f"{found.named} holds it in some {found.rung.predicted_bytes} bytes"
            )
            return replace(found, instead_of=rung)
    return missed


def _attempts(job: Job, missed: Found, plain: nn.Module) -> Iterator[Found]:
    if missed.twin is not None and job.settings.bits.epochs > 0:
        rung, met = choose_file(job, missed.network, missed.twin)
        yield Found(
            rung, met, missed.network, missed.twin, named="the small network, before its bits pass"
        )
    yield whole(job, plain)


def whole(job: Job, plain: nn.Module) -> Found:
    """The plain network's own weights, at the coarsest step that holds the floor."""
    assert job.floor is not None
    floor, splits = job.floor, job.splits
    state = {
        name: tensor.detach().cpu().numpy()
        for name, tensor in state_tensors(plain).items()
        if not name.endswith("num_batches_tracked")
    }

    def on(measure: Callable[[nn.Module], float]) -> Callable[[FileContents], float]:
        return lambda contents: floor.margin(measure(decoded(job, contents)))

    control, validation = job.measure(splits.control), job.measure(splits.validation)
    packed = pack(
        state,
        good_enough=on(control),
        judge=on(validation),
        metadata={"recipe": job.recipe.name},
    )
    model = decoded(job, packed.contents)
    size = codec.size_estimate(packed.contents, job.settings.profile).total
    rung = Rung(None, packed.contents, size, control(model), validation(model))
    return Found(rung, margin_of(floor, rung) >= 0.0, plain, None, named="the plain network")
