"""From a fork of the supervisor to the trial's own program."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import struct
from pathlib import Path
from typing import NoReturn

from epigram.runner import cgroups, kernel
from epigram.runner.order import Order

_STATUS = struct.Struct("=i")
_USUAL = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ
)  # fmt: skip
_ROOM_FOR_OTHERS = 1024  # tasks that the user's other programs may yet start
_THREADS_EACH = 4


def start_trial(order: Order, logs: tuple[int, int], failure: int) -> int:
    """Fork; the child becomes the trial. Returns its pid.

    Args:
        order: what to start.
        logs: descriptors of the files that take standard output and error.
        failure: a descriptor that takes one line if the program cannot be started; it closes by itself
            when the program starts.
    """
    supervisor = os.getpid()
    pid = _fork()
    if pid == 0:
        with _last_words(failure):
            os.setsid()
            kernel.die_with(supervisor)
            _become(order, logs)
    return pid


def start_contained(order: Order, logs: tuple[int, int], failure: int, status: int) -> int:
    """Fork pid 1 of a new PID namespace, which starts the trial as its child. Returns pid 1's pid.

    It hands SIGTERM on to the trial, buries whatever dies in the namespace, and when the trial's main
    process ends, writes how to ``status`` (read with ``read_status``) and ends: that ends all of it.
    """
    kernel.enter_pid_namespace()
    alive, ours = os.pipe()
    pid = _fork()
    if pid == 0:
        with _last_words(failure):
            os.close(ours)
            os.setsid()
            _die_with_writer(alive)
            kernel.mount_own_proc()
            main = os.fork()
            if main == 0:
                with _last_words(failure):
                    os.setsid()
                    _become(order, logs)
            os.close(failure)
            _be_pid_1(main, status)
    os.close(alive)  # the other end stays open for as long as the supervisor lives
    return pid


def read_status(status: int) -> int | None:
    """The wait status of the trial's main process, as pid 1 wrote it; None = it wrote none."""
    with contextlib.suppress(OSError):
        text = os.read(status, _STATUS.size)
        if len(text) == _STATUS.size:
            return int(_STATUS.unpack(text)[0])
    return None


def _fork() -> int:
    """Fork; in the child SIGTERM waits until somebody is there to take it, so that none is lost."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    pid = os.fork()
    if pid != 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    return pid


def _become(order: Order, logs: tuple[int, int]) -> NoReturn:
    for number in _USUAL:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if order.cgroup:
        cgroups.join(Path(order.cgroup))
    _limit(order)
    os.chdir(order.cwd)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (logs[0], 1), (logs[1], 2)):
        os.dup2(source, target)
    os.execvpe(order.argv[0], order.argv, dict(order.env))


def _limit(order: Order) -> None:
    """Limits that the kernel keeps between two looks of the supervisor.

    The one on processes counts threads, and all of the user's: those that are there already are added,
    and room for more. It is the last wall behind the supervisor's looks, and does not hold the superuser.
    """
    with contextlib.suppress(OSError, ValueError):
        _lower(resource.RLIMIT_FSIZE, order.max_bytes)
        _lower(resource.RLIMIT_CORE, 0)
        if os.geteuid() != 0:
            ours = _THREADS_EACH * order.max_processes
            _lower(resource.RLIMIT_NPROC, _own_tasks() + ours + _ROOM_FOR_OTHERS)


def _lower(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    least = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (least, least))


def _own_tasks() -> int:
    """Threads of all processes of this user."""
    total, me = 0, os.geteuid()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == me:
                total += sum(1 for _ in (folder / "task").iterdir())
    return total


def _die_with_writer(alive: int) -> None:
    """As ``die_with``, for pid 1 of a namespace, which cannot see its parent.

    ``alive`` is a pipe that only the supervisor can write to: if it is closed, the supervisor is dead.
    """
    with contextlib.suppress(OSError):
        kernel.ask_to_die_with_parent()
    os.set_blocking(alive, False)
    with contextlib.suppress(BlockingIOError):
        if not os.read(alive, 1):
            os._exit(127)


def _be_pid_1(main: int, status: int) -> NoReturn:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, lambda *_: _hand_on(main))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    while True:
        pid, how = os.waitpid(-1, 0)
        if pid == main:
            os.write(status, _STATUS.pack(how))
            os._exit(0)


def _hand_on(main: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(main, signal.SIGTERM)


class _last_words:  # noqa: N801 (reads as what it is)
    """In a forked child: whatever goes wrong is written to a descriptor, and the child ends."""

    def __init__(self, failure: int) -> None:
        self._failure = failure

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> NoReturn:
        words = f"{getattr(error, 'strerror', None) or error}"
        with contextlib.suppress(OSError):
            os.write(self._failure, words.encode("utf-8", "replace")[:512])
        os._exit(127)
