"""Where runs execute: one supervised process tree per trial, on this machine or on a cluster.

This room starts commands; what a run means is known above. An :class:`Executor` has slots, starts a
:class:`Job` on one of them, and reports one :class:`Exit` for each, after nothing of the trial is left.
The names are imported when they are first asked for: supervisors are small processes and need few.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from epigram.runner.batch import SlurmExecutor
    from epigram.runner.cluster import RayExecutor
    from epigram.runner.fake import FakeExecutor, FakeSlot, FakeTrial
    from epigram.runner.fence import Fence
    from epigram.runner.interrupts import Interrupts, wind_down
    from epigram.runner.limits import Limits
    from epigram.runner.local import LocalExecutor
    from epigram.runner.places import LocalSlot, card_slots, local_slots, processor_slots
    from epigram.runner.protocol import Executor, Exit, Handle, Job, Lease, Reason, Slot

_HOMES = {
    "Executor": "protocol",
    "Job": "protocol",
    "Exit": "protocol",
    "Reason": "protocol",
    "Handle": "protocol",
    "Lease": "protocol",
    "Slot": "protocol",
    "LocalExecutor": "local",
    "Limits": "limits",
    "LocalSlot": "places",
    "local_slots": "places",
    "processor_slots": "places",
    "card_slots": "places",
    "FakeExecutor": "fake",
    "FakeSlot": "fake",
    "FakeTrial": "fake",
    "Fence": "fence",
    "RayExecutor": "cluster",
    "SlurmExecutor": "batch",
    "Interrupts": "interrupts",
    "wind_down": "interrupts",
}

__all__ = [
    "Executor",
    "Job",
    "Exit",
    "Reason",
    "Handle",
    "Lease",
    "Slot",
    "LocalExecutor",
    "Limits",
    "LocalSlot",
    "local_slots",
    "processor_slots",
    "card_slots",
    "RayExecutor",
    "SlurmExecutor",
    "FakeExecutor",
    "FakeSlot",
    "FakeTrial",
    "Fence",
    "Interrupts",
    "wind_down",
]


def __getattr__(name: str) -> Any:
    try:
        home = f"{__name__}.{_HOMES[name]}"
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value
