"""The root reaper: one small process between a driver and its supervisors.

It forks a supervisor per trial (a fork of this small process costs a millisecond and hardly any memory)
and inherits what a supervisor leaves when somebody kills it: it is a child subreaper too, and whatever
arrives here and is no supervisor has no business to live. It ends when the driver does.

Messages are JSON, one per packet. From the driver: ``{"n": number}`` with descriptors (order, control,
status, stdout, stderr, and the slot's lock if it has one). To the driver: ``{"n", "pid", "start_time"}``
when that supervisor runs, ``{"gone": n, "survivors"}`` when it ended without a word and all it left is dead.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import final

from epigram.runner import cgroups, kernel, processes
from epigram.runner.order import Order
from epigram.runner.supervisor import Lines, supervise

_MOST_DESCRIPTORS = 6
_MOST_KILL_S = 5.0  # for orphans: the driver waits for answers meanwhile
_PATIENCE_S = 1.0  # of a reaper whose driver is dead, beyond what its supervisors may take


@dataclass(frozen=True)
class _Ward:
    """A supervisor that runs."""

    number: int
    cgroup: str
    kill_s: float


@final
class Reaper:
    """Runs until its driver is dead or closes the socket.

    Args:
        link: the socket to the driver.
        driver: the driver's pidfd; -1 without.
    """

    def __init__(self, link: socket.socket, driver: int) -> None:
        self._link = link
        self._driver = driver
        self._wards: dict[int, _Ward] = {}
        self._wake, wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        if kernel.LINUX:
            kernel.become_subreaper()

    def run(self) -> None:
        """Serve; then see everybody off."""
        watched = [self._link.fileno(), self._wake] + ([self._driver] if self._driver >= 0 else [])
        while True:
            ready = select.select(watched, [], [])[0]
            if self._wake in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake, 4096)
                self._bury()
            if self._driver in ready:
                break
            if self._link.fileno() in ready and not self._serve():
                break
        self._see_off()

    def _serve(self) -> bool:
        """One message of the driver's; False when there will be no more."""
        try:
            text, handed = _receive(self._link)
        except OSError:
            return False
        if not text:
            return False
        try:
            self._fork(int(json.loads(text)["n"]), handed)
        finally:
            for descriptor in handed:
                os.close(descriptor)
        return True

    def _fork(self, number: int, handed: list[int]) -> None:
        written, control, status, out, err = handed[:5]
        lock = handed[5] if len(handed) > 5 else -1
        order = Order.from_bytes(_read_all(written))
        pid = os.fork()
        if pid == 0:
            try:
                signal.set_wakeup_fd(-1)
                self._link.close()
                supervise(order, Lines(control, self._driver, status, (out, err), lock))
            except BaseException:  # noqa: BLE001 (a fork must not go on as its parent)
                os.write(err, traceback.format_exc().encode("utf-8", "replace"))
            finally:
                os._exit(70)
        self._wards[pid] = _Ward(number, order.cgroup, order.kill_s)
        self._tell({"n": number, "pid": pid, "start_time": processes.start_time(pid) or 0})

    def _bury(self) -> None:
        """Reap; a supervisor that did not end well has left a trial, which is killed."""
        for pid, how in _dead():
            ward = self._wards.pop(pid, None)
            if ward is not None and how != 0:
                survivors = self._kill_orphans(ward)
                self._tell({"gone": ward.number, "survivors": survivors})
        if any(child not in self._wards for child in processes.own_children()):
            self._kill_orphans(None)

    def _kill_orphans(self, ward: _Ward | None) -> int:
        """Kill every child that is no supervisor, until there is none; how many would not die."""
        deadline = time.monotonic() + (1.0 if ward is None else min(ward.kill_s, _MOST_KILL_S))
        group = Path(ward.cgroup) if ward is not None and ward.cgroup else None
        while True:
            if group is not None:
                cgroups.kill(group)
            orphans = [pid for pid in processes.own_children() if pid not in self._wards]
            for pid in orphans:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            for pid in orphans:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            lives = group is not None and cgroups.populated(group)
            if not orphans and not lives:
                break
            if time.monotonic() >= deadline:
                return max(len(orphans), 1)
            time.sleep(0.001)
        if group is not None:
            cgroups.remove(group)
        return 0

    def _see_off(self) -> None:
        """Every supervisor sees the driver's death by itself; wait for them, then kill what is left."""
        self._link.close()
        longest = max((ward.kill_s for ward in self._wards.values()), default=0.0)
        deadline = time.monotonic() + longest + _PATIENCE_S
        while self._wards and time.monotonic() < deadline:
            select.select([self._wake], [], [], 0.1)
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)
            self._bury()
        self._wards.clear()
        self._kill_orphans(None)

    def _tell(self, message: dict[str, int]) -> None:
        with contextlib.suppress(OSError, ValueError):  # the driver is gone, or the socket closed
            self._link.send(json.dumps(message).encode("ascii"))


def _dead() -> list[tuple[int, int]]:
    """Children that have ended, and how."""
    found = []
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, how = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            found.append((pid, how))
    return found


def _receive(link: socket.socket) -> tuple[bytes, list[int]]:
    """One packet and the descriptors that came with it, which are closed on exec."""
    room = socket.CMSG_SPACE(_MOST_DESCRIPTORS * array.array("i").itemsize)
    text, extra, _, _ = link.recvmsg(4096, room, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    handed = array.array("i")
    for level, kind, data in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            handed.frombytes(data[: len(data) - len(data) % handed.itemsize])
    for descriptor in handed:
        os.set_inheritable(descriptor, False)
    return text, list(handed)


def _read_all(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with os.fdopen(os.dup(descriptor), "rb") as file:
        return file.read()


def main() -> None:
    """``python -I -S -c '…' <link> <driver>``: descriptors that were inherited."""
    link, driver = int(sys.argv[1]), int(sys.argv[2])
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a driver's thread may have blocked any of them
    kernel.call_it("epigram-reaper")
    os.set_inheritable(link, False)
    if driver >= 0:
        os.set_inheritable(driver, False)
    with socket.socket(fileno=link) as connection:
        Reaper(connection, driver).run()
