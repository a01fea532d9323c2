"""What trials may take, and how long their endings may."""

from __future__ import annotations

from dataclasses import dataclass

from epigram.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """On each trial.

    Args:
        max_processes: at a time.
        max_bytes: in the run's folder; None = half of what is free there when the trial starts. No
            single file may grow larger either, wherever it is.
        watch_s: seconds between two looks at these.
        kill_s: seconds that killing may take before what still lives is given up.
        memory_s: seconds that a card may take to give its memory back.
        memory_bytes: how much more than before the trial may stay taken on its card.

    Raises:
        ConfigError: a value cannot be meant.
    """

    max_processes: int = 512
    max_bytes: int | None = None
    watch_s: float = 0.5
    kill_s: float = 30.0
    memory_s: float = 30.0
    memory_bytes: int = 64 * 2**20

    def __post_init__(self) -> None:
        for name in ("max_processes", "watch_s", "kill_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"Limits.{name}: got {getattr(self, name)}, expected more than 0")
