"""Where runs execute: one supervised process tree per trial, on this machine or on a cluster.

This room starts commands; what a run means is known above. An :class:`Executor` has slots, starts a
:class:`Job` on one of them, and reports one :class:`Exit` for each, after nothing of the trial is left.
"""

from epigram.runner.fake import FakeExecutor, FakeSlot, FakeTrial
from epigram.runner.protocol import Executor, Exit, Handle, Job, Lease, Reason, Slot

__all__ = [
    "Executor",
    "Job",
    "Exit",
    "Reason",
    "Handle",
    "Lease",
    "Slot",
    "FakeExecutor",
    "FakeSlot",
    "FakeTrial",
]
