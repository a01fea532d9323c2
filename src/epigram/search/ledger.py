"""The truth about a study: an append-only file of events with one writer.

What ``append`` has acknowledged survives the death of the process at any moment; a state change
(``durable=True``) survives that of the machine too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, final

from epigram import atomic
from epigram.errors import RunFolderError, StorageError
from epigram.search import lines
from epigram.search.lines import Event

LEDGER: Final = "ledger.jsonl"
_LOCK: Final = "driver.lock"


@final
class Ledger:
    """Events of one study, read once and then added to, by one process at a time.

    Args:
        folder: the study's.

    Raises (on entering):
        RunFolderError: another process writes this ledger.
        LedgerError: it is damaged; the message names the line.
        StorageError: the folder cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Ledger(folder) as ledger:
        ...         _ = ledger.append("asked", {"run_id": "a"})
        ...     [event.type for event in read(folder)]
        ['asked']
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.path = self.folder / LEDGER
        self.events: list[Event] = []
        self.cut_bytes = 0
        """How much of a torn line was cut when the ledger was opened."""
        self._lock: IO[bytes] | None = None
        self._file: int | None = None
        self._size = 0
        self._next = 1

    def __enter__(self) -> Ledger:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = atomic.claim_lock(self.folder / _LOCK, doing="drives this study")
            self._open()
        except OSError as error:
            self.close()
            if isinstance(error, StorageError | RunFolderError):
                raise
            raise StorageError(
                error.errno, f"could not open {self.path}: {error.strerror}"
            ) from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def append(self, kind: str, data: Mapping[str, Any], *, durable: bool = True) -> Event:
        """Write one event; when this returns it is there.

        Args:
            kind: what happened.
            data: plain data without NaN.
            durable: flushed to the disk, not just handed to the operating system.

        Raises:
            StorageError: the disk is full; the ledger is as it was, or (if not even cutting works)
                closed, with a torn line that the next opening cuts.
        """
        if self._file is None:
            raise StorageError(None, f"{self.path} is closed; open the study first")
        event = Event(self._next, kind, dict(data))
        line = lines.encode(event)
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
            if durable:
                os.fsync(self._file)
        except OSError as error:
            raise StorageError(
                error.errno,
                f"could not write {self.path}: {error.strerror}; {self._taken_back()}. Make room and "
                "run the same command again",
            ) from error
        self._size += len(line)
        self._next += 1
        return event

    def close(self) -> None:
        """Let go of the ledger. May be repeated."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _taken_back(self) -> str:
        """Cut what was written of an event that failed; how the ledger is left, in words."""
        try:
            os.truncate(self.path, self._size)
        except OSError as error:
            self.close()  # an event after half a line would be damage
            return (
                f"half a line may be left ({error.strerror}), which is cut when it is opened again"
            )
        return "it is as it was"

    def _open(self) -> None:
        known = self.path.exists()
        content = self.path.read_bytes() if known else b""
        self.events, self._size = lines.decode_all(content, where=str(self.path))
        self._next = len(self.events) + 1
        self.cut_bytes = len(content) - self._size
        if self.cut_bytes:
            os.truncate(self.path, self._size)
        self._file = os.open(
            self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644
        )
        if not known:
            atomic.flush_folder(self.folder)


def read(folder: str | os.PathLike[str]) -> list[Event]:
    """The events of a study that may be going on; a line that is being written is left out.

    Raises:
        LedgerError: it is damaged.
        FileNotFoundError: there is none.
    """
    path = Path(folder) / LEDGER
    return lines.decode_all(path.read_bytes(), where=str(path))[0]
