"""Being asked to stop: finish the step, write a checkpoint, leave. Asked twice: leave now."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, final


@final
class StopSignals:
    """While the block lasts, the first Ctrl-C or SIGTERM only sets ``requested``.

    The second Ctrl-C raises ``KeyboardInterrupt`` on the spot. Outside the main thread, where Python
    cannot take signals, nothing is changed. The previous handlers are put back in the end.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.requested is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name


def deadline(minutes: float | None) -> Callable[[], bool] | None:
    """A ``stop`` for ``fit`` that says so once ``minutes`` have passed from now; None = never."""
    if minutes is None:
        return None
    end = time.monotonic() + 60.0 * minutes
    return lambda: time.monotonic() >= end
