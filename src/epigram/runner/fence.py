"""Only the latest attempt at a run may replace the run's files.

A trial that was given up (its machine went silent, say) may still live and write. The number of the
attempt is a token: ``<run>/attempt`` holds the latest, and whoever replaces a file of the run does it
while holding that number still, so that an old attempt cannot write over its successor's work.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

from epigram.errors import ConfigError, FencedError, HeldError, StorageError

_NAME = "attempt"
_LOOK_S = 0.05

WAIT_S = 5.0
"""Whoever holds the fence is waited for so long."""


@final
@dataclass(frozen=True)
class Fence:
    """One attempt's right to write in a run's folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = claim(folder, 1)
        ...     with first.held():
        ...         pass  # write beside, rename: nobody can claim meanwhile
        ...     second = claim(folder, 2)
        ...     first.holds(), second.holds()
        (False, True)
    """

    folder: Path
    attempt: int

    @classmethod
    def from_environment(cls) -> Fence | None:
        """In a trial: its own fence. None in a process that no executor has started."""
        folder, attempt = os.environ.get("EPIGRAM_RUN_DIR"), os.environ.get("EPIGRAM_ATTEMPT")
        return None if folder is None or attempt is None else cls(Path(folder), int(attempt))

    def holds(self) -> bool:
        """Is this still the latest attempt? By the time one has read the answer it may not be."""
        return latest(self.folder) == self.attempt

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """While the block lasts, no later attempt can begin.

        Raises:
            FencedError: one has begun already.
            HeldError: one is beginning and does not come to an end.
            StorageError: the folder is gone.
        """
        with _opened(self.folder, fcntl.LOCK_SH) as descriptor:
            now = _read(descriptor)
            if now != self.attempt:
                raise FencedError(
                    f"{self.folder}: attempt {now} has begun, this is attempt {self.attempt}; nothing "
                    "was written. Whoever started the later one has given this one up: end it"
                )
            yield


def claim(folder: str | os.PathLike[str], attempt: int) -> Fence:
    """Begin an attempt: from now on, earlier ones are fenced off.

    Raises:
        ConfigError: this attempt, or a later one, has begun before.
        HeldError: an earlier one goes on writing (it was stopped meanwhile, say).
        StorageError: the folder cannot be written.
    """
    path = Path(folder)
    with _opened(path, fcntl.LOCK_EX) as descriptor:
        now = _read(descriptor)
        if now >= attempt:
            raise ConfigError(
                f"{path}: attempt {attempt} cannot begin, attempt {now} has; use {now + 1}"
            )
        # longer numbers only follow shorter ones, so one write replaces the old number whole
        os.pwrite(descriptor, f"{attempt}\n".encode("ascii"), 0)
        os.fsync(descriptor)
    return Fence(path, attempt)


def latest(folder: str | os.PathLike[str]) -> int:
    """The latest attempt that has begun; 0 = none."""
    try:
        with (Path(folder) / _NAME).open("rb") as file:
            return _read(file.fileno())
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def _opened(folder: Path, lock: int) -> Iterator[int]:
    try:
        descriptor = os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StorageError(
            error.errno, f"{folder / _NAME}: {error.strerror}; is the run's folder there?"
        ) from error
    try:
        _lock(descriptor, lock, folder)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, lock: int, folder: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, lock | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise HeldError(
                    f"{folder / _NAME}: held by another attempt (the latest that has begun is "
                    f"{_read(descriptor)}) for more than {WAIT_S:g} s; end that process"
                ) from None
            time.sleep(_LOOK_S)
        else:
            return


def _read(descriptor: int) -> int:
    text = os.pread(descriptor, 32, 0)
    return int(text) if text.strip().isdigit() else 0
