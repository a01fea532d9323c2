"""A driver that is asked to leave: once, it lets its trials end in order; twice, it kills them."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable
from types import FrameType
from typing import Any, final

from epigram.runner.protocol import Executor, Exit, Handle

_HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_S = 0.05


@final
class Interrupts:
    """While the block lasts, Ctrl-C, SIGTERM and SIGHUP are only noted.

    ``requested`` is the first one's number, ``hard`` becomes true with the second. Outside the main
    thread, where Python cannot take signals, nothing is changed. Previous handlers are put back.
    """

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self.hard = False
        self._previous: dict[signal.Signals, Any] = {}

    @property
    def exit_code(self) -> int:
        """What the command returns: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP, 0 without."""
        return 0 if self.requested is None else 128 + self.requested

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _HEEDED:
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *failure: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.hard = self.requested is not None
        self.requested = self.requested or signal.Signals(number)


def wind_down(
    executor: Executor, handles: Iterable[Handle], interrupts: Interrupts, *, within_s: float
) -> list[Exit]:
    """Ask these trials to end and wait for it; once ``interrupts.hard``, kill them.

    Args:
        executor: runs them.
        handles: of trials whose Exit has not been seen; those that end meanwhile count too.
        interrupts: may become hard while we wait.
        within_s: after so long it returns whatever has ended; ``executor.close()`` kills the rest.
    """
    open_ends = {(one.run_id, one.attempt): one for one in handles}
    for one in open_ends.values():
        executor.stop(one, hard=interrupts.hard)
    hard = interrupts.hard
    ends: list[Exit] = []
    deadline = time.monotonic() + within_s
    while open_ends and time.monotonic() < deadline:
        if interrupts.hard and not hard:
            hard = True
            for one in open_ends.values():
                executor.stop(one, hard=True)
        for end in executor.poll(_LOOK_S):
            ends.append(end)
            open_ends.pop((end.run_id, end.attempt), None)
    return ends
