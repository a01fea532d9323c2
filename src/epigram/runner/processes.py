"""Looking at processes and ending exactly those that are meant.

A pid is used again; a pid together with its start time is not, within one boot. ``/proc`` is read where
there is one; elsewhere ``ps`` answers, slower and with less.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from epigram.runner.kernel import open_pidfd

_PROC = Path("/proc")
_HAS_PROC = (_PROC / "self" / "stat").exists()


def boot_id() -> str:
    """Of the running kernel; another one after each boot."""
    with contextlib.suppress(OSError):
        return (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
    return _answer("sysctl", "-n", "kern.boottime") or "unknown"


def start_time(pid: int) -> int | None:
    """When ``pid`` started (clock ticks since boot; seconds since 1970 without ``/proc``).

    None = there is no such process, or it is dead and only waits to be reaped.
    """
    if _HAS_PROC:
        fields = _stat(pid)
        return None if fields is None or fields[0] in (b"Z", b"X") else int(fields[19])
    text = _answer("ps", "-o", "lstart=", "-p", str(pid))
    return int(time.mktime(time.strptime(text))) if text else None


def parents() -> dict[int, int]:
    """Every process and its parent."""
    if _HAS_PROC:
        found = {pid: _stat(pid) for pid in _pids()}
        return {pid: int(fields[1]) for pid, fields in found.items() if fields}
    lines = (_answer("ps", "-A", "-o", "pid=,ppid=") or "").splitlines()
    return {int(pid): int(parent) for pid, parent in (line.split() for line in lines)}


def descendants(root: int) -> list[int]:
    """Children of ``root``, their children, and so on; parents before children."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents().items():
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def own_children() -> list[int]:
    """Children of this process, which must have one thread; adopted ones and zombies included."""
    me = os.getpid()
    with contextlib.suppress(OSError):
        return [int(pid) for pid in (_PROC / f"self/task/{me}/children").read_bytes().split()]
    return [pid for pid, parent in parents().items() if parent == me]


def environment(pid: int) -> dict[str, str]:
    """What ``pid`` was started with; {} for the dead, for other users' and where nobody tells."""
    with contextlib.suppress(OSError):
        words = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
        pairs = (os.fsdecode(word).partition("=") for word in words if b"=" in word)
        return {name: value for name, _, value in pairs}
    return {}


def tagged(tags: Mapping[str, str]) -> dict[int, int]:
    """Living processes whose environment has all of ``tags``, and their start times."""
    wanted = [os.fsencode(f"{name}={value}") for name, value in tags.items()]
    found: dict[int, int] = {}
    for pid in _pids():
        with contextlib.suppress(OSError):
            words = (_PROC / str(pid) / "environ").read_bytes()
            if all(word in words for word in wanted) and set(wanted) <= set(words.split(b"\0")):
                started = start_time(pid)
                if started is not None:
                    found[pid] = started
    return found


def kill_exactly(pid: int, started: int) -> bool:
    """SIGKILL the process that has this pid *and* this start time; False when there is none."""
    try:
        descriptor = open_pidfd(pid)
    except ProcessLookupError:
        return False
    try:  # the descriptor holds on to the process, so that the check cannot grow old
        if start_time(pid) != started:
            return False
        if descriptor is not None:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        if descriptor is not None:
            os.close(descriptor)
    return True


def kill_all(found: Mapping[int, int], *, within_s: float) -> int:
    """SIGKILL processes given with their start times; how many still live after ``within_s``."""
    deadline = time.monotonic() + within_s
    for pid, started in found.items():
        kill_exactly(pid, started)
    while living := _living(found):
        if time.monotonic() >= deadline:
            return living
        time.sleep(0.002)
    return 0


def _living(found: Mapping[int, int]) -> int:
    return sum(start_time(pid) == started for pid, started in found.items())


def _pids() -> Iterable[int]:
    names = os.listdir(_PROC) if _HAS_PROC else []  # noqa: PTH208 (a Path per process is slow)
    return (int(name) for name in names if name.isdigit())


def _stat(pid: int) -> list[bytes] | None:
    """The fields of ``/proc/<pid>/stat`` behind the command's name, state and parent first."""
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    return text[text.rindex(b")") + 2 :].split()


def _answer(*command: str) -> str | None:
    import subprocess  # noqa: PLC0415 (a third of what a reaper would import, and needed elsewhere only)

    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5.0, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
