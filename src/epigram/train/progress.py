"""The one live line of a run: where it is, how long it will take, and how well it does."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from rich.console import Console
from rich.live import Live
from rich.text import Text


@runtime_checkable
class Progress(Protocol):
    """What the loop tells whoever shows its progress."""

    def begin(self, *, stage: str, epochs: int, steps_per_epoch: int, step: int) -> None: ...
    def due(self) -> bool: ...
    def update(self, *, step: int, train: Mapping[str, float]) -> None: ...
    def epoch(self, record: Mapping[str, Any]) -> None: ...
    def end(self) -> None: ...


class ProgressLine:
    """A line that is rewritten on a terminal, and one line per epoch anywhere else.

    Args:
        console: where to write; standard error by default, which leaves standard output to results.
        interval: seconds between updates on a terminal.
    """

    def __init__(self, console: Console | None = None, *, interval: float = 0.5) -> None:
        self.console = console or Console(stderr=True)
        self.interval = interval
        self._live: Live | None = None
        self._last: Mapping[str, Any] = {}

    def begin(self, *, stage: str, epochs: int, steps_per_epoch: int, step: int) -> None:
        """A stage starts, or goes on from ``step``."""
        self._stage, self._epochs, self._steps_per_epoch = stage, epochs, steps_per_epoch
        self._started = self._shown = time.monotonic()
        self._first_step = self._recent_step = step
        self._recent = self._started
        self._step_seconds, self._measured = 0.0, 0
        self._last = {}
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False)
            self._live.start()

    def due(self) -> bool:
        """Is it time to show something? Cheap: asks only the clock."""
        return self._live is not None and time.monotonic() - self._shown >= self.interval

    def update(self, *, step: int, train: Mapping[str, float]) -> None:
        """Show a moment within an epoch."""
        now = time.monotonic()
        self._measure(step, now)
        self._shown = now
        if self._live is not None:
            epoch = min(self._epochs, step // self._steps_per_epoch + 1)
            self._live.update(Text(self._line(epoch, step, train), no_wrap=True), refresh=True)

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Show the end of an epoch."""
        self._last = record
        self._measure(record["step"], time.monotonic())
        line = self._line(record["epoch"], record["step"], record["train"])
        if self._live is not None:
            self._live.update(Text(line, no_wrap=True), refresh=True)
        else:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def end(self) -> None:
        """The stage is over, or was left."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _measure(self, step: int, now: float) -> None:
        if step > self._recent_step:
            latest = (now - self._recent) / (step - self._recent_step)
            self._measured += 1  # the first holds what is done once, such as a teacher's answers
            kept = 0.7 if self._measured > 2 else 0.0
            self._step_seconds = kept * self._step_seconds + (1 - kept) * latest
            self._recent, self._recent_step = now, step

    def _line(self, epoch: int, step: int, train: Mapping[str, float]) -> str:
        left = self._epochs * self._steps_per_epoch - step
        elapsed = time.monotonic() - self._started
        parts = [
            f"{self._stage} {epoch}/{self._epochs}",
            f"{1e3 * self._step_seconds:.2f} ms/step",
            f"{duration(elapsed)} + {duration(left * self._step_seconds)}",
            _loss(train),
        ]
        if "accuracy" in train:
            parts.append(f"fit {100 * train['accuracy']:.2f} %")
        if "accuracy" in self._last.get("control", {}):
            parts.append(f"control {100 * self._last['control']['accuracy']:.2f} %")
        if self._last.get("units"):
            parts.append("units " + "-".join(str(n) for n in self._last["units"].values()))
        if self._last.get("predicted_bytes"):
            parts.append(f"~{self._last['predicted_bytes']:,} bytes")
        return "  ".join(parts)


def _loss(train: Mapping[str, float]) -> str:
    if "kl_nats" not in train:
        return f"nll {train['nll']:.4f}"
    return f"loss {train['loss']:.4f}  nll {train['nll']:.4f}  kl {train['kl_nats']:,.0f} nats"


def duration(seconds: float) -> str:
    """Seconds as a person reads them.

    Example:
        >>> duration(7.0), duration(75.0), duration(3700.0)
        ('7s', '1m15s', '1h01m')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
