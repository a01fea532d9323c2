"""Files that are either the old one or the new one, never half of each.

A file is written beside its destination, flushed to the disk, and renamed over it; then the folder is
flushed, so that the rename itself survives a power cut. Whatever goes wrong on the way, the previous
file is untouched and the temporary one is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any, Literal

from epigram.errors import RunFolderError, StorageError

Guard = Callable[[], contextlib.AbstractContextManager[None]]
"""Entered around every replacement; it raises if this process may not write any more."""
_guard: ContextVar[Guard] = ContextVar("epigram-guard", default=contextlib.nullcontext)


@contextlib.contextmanager
def guarded_by(guard: Guard) -> Iterator[None]:
    """While the block lasts, files are replaced only inside ``guard()``.

    What it raises reaches whoever wanted to write; the file stays as it was.
    """
    token = _guard.set(guard)
    try:
        yield
    finally:
        _guard.reset(token)


def permitted() -> contextlib.AbstractContextManager[None]:
    """The guard that holds here, for files that are appended to."""
    return _guard.get()()


@contextlib.contextmanager
def replacing(
    path: str | os.PathLike[str],
    mode: Literal["w", "wb"] = "wb",
    *,
    previous: str | os.PathLike[str] | None = None,
) -> Iterator[IO[Any]]:
    """A file to write to that takes ``path``'s place when the block ends well.

    Args:
        path: where the file shall be; its folder is made if need be.
        mode: ``"wb"`` for bytes, ``"w"`` for UTF-8 text with Unix line ends.
        previous: the file that was there gets this name; None = it is gone. A kill between the two
            renames leaves this name alone.

    Raises:
        StorageError: the disk is full, or refuses in another way. The previous file is untouched.
            Any other exception of the block passes through, and nothing is replaced either.
    """
    destination = Path(path)
    temporary: Path | None = None
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{destination.name}.", suffix=".tmp", dir=destination.parent
        )
        temporary = Path(name)
        text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
        with os.fdopen(handle, mode, **text) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(_mode_of(destination))
        with permitted():
            if previous is not None and destination.exists():
                destination.replace(previous)
            temporary.replace(destination)
        temporary = None
        flush_folder(destination.parent)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            error.errno,
            f"could not write {destination}: {error.strerror or error}; "
            "what was there before is untouched. Free some space, or choose another folder",
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def write_bytes(
    path: str | os.PathLike[str],
    data: bytes | bytearray | memoryview,
    *,
    previous: str | os.PathLike[str] | None = None,
) -> None:
    """Put ``data`` where ``path`` says, whole or not at all; ``previous`` as in :func:`replacing`.

    Raises:
        StorageError: see :func:`replacing`.
    """
    with replacing(path, "wb", previous=previous) as file:
        file.write(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Put ``text`` (UTF-8) where ``path`` says, whole or not at all.

    Raises:
        StorageError: see :func:`replacing`.
    """
    with replacing(path, "w") as file:
        file.write(text)


def write_json(path: str | os.PathLike[str], obj: object) -> None:
    """Put ``obj`` where ``path`` says as indented JSON in the order of its keys.

    Raises:
        StorageError: see :func:`replacing`.
        TypeError: ``obj`` holds something JSON has no word for; nothing is written.
        ValueError: ``obj`` holds a NaN or an infinity; nothing is written.
    """
    text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def claim_lock(path: str | os.PathLike[str], *, doing: str) -> IO[bytes]:
    """The lock file of a folder that one process uses at a time; closing it lets go.

    The lock dies with the process, whatever kills it. The file holds the process's number.

    Args:
        path: the lock file; made if need be.
        doing: what the other process is told to be doing, "is training in this folder".

    Raises:
        RunFolderError: another process has it.
        OSError: the file cannot be made.
    """
    lock = Path(path).open("a+b")  # noqa: SIM115 - the caller closes it
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        holder = lock.read().decode("ascii", "replace").strip() or "unknown"
        lock.close()
        raise RunFolderError(
            f"{Path(path).parent}: another process (pid {holder}) {doing}. Wait for it, stop it, or "
            "choose another folder"
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()).encode())
    lock.flush()
    return lock


def flush_folder(folder: str | os.PathLike[str]) -> None:
    """Make the names in ``folder`` durable; silently nothing where folders cannot be flushed."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _mode_of(destination: Path) -> int:
    """The permissions of the file to be replaced, or what a new file would get."""
    with contextlib.suppress(OSError):
        return destination.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
