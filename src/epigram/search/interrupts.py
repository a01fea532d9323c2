"""Being asked to stop while many trials run: once, in order; twice, at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Final, final

_SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGHUP")


@final
class Interrupts:
    """While the block lasts, Ctrl-C, SIGTERM and SIGHUP are counted and do nothing else.

    Outside the main thread, where Python cannot take signals, nothing is changed. The previous handlers
    are put back in the end.
    """

    def __init__(self) -> None:
        self.count = 0
        self.name = ""
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, n) for n in _SIGNALS if hasattr(signal, n)):
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
        self.count += 1
        self.name = self.name or signal.Signals(number).name
