"""Asking what may never answer, without waiting for ever."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from epigram.errors import ExecutorError

T = TypeVar("T")


def within(seconds: float, question: Callable[[], T], who: str) -> T:
    """What ``question`` returns, asked in a thread of its own that is left behind if it hangs.

    Raises:
        ExecutorError: no answer in time, or the question's own exception, as its cause.
    """
    answers: queue.SimpleQueue[tuple[list[T], Exception | None]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(([question()], None))
        except Exception as error:  # noqa: BLE001 (handed on below)
            answers.put(([], error))

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise ExecutorError(f"{who} gave no answer within {seconds:g} s") from None
    if error is not None:
        raise ExecutorError(str(error) or type(error).__name__) from error
    return answer[0]
