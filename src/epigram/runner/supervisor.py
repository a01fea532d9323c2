"""One process per trial, which outlives nothing of it: it starts the trial, and leaves last.

It ends the trial when the driver asks, when the driver dies (its end of a pipe closes, and its pidfd
becomes readable), when time is up or a limit is passed. However the trial's main process ends, the
supervisor then kills whatever is left and waits until nothing is: background helpers, daemons that have
left the session, children of dead children.

Only the main process is *asked* to end. SIGTERM for the whole group would kill a training script's data
loaders first, and the script would die of that instead of writing its checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, final

from epigram.runner import cgroups, kernel, launch, processes
from epigram.runner.order import Order
from epigram.runner.protocol import Reason

STOP, KILL = b"s", b"k"
"""What the driver writes to a supervisor: end the trial in order; end it now."""

_MOST_ENTRIES = 20_000  # of a run's folder that are looked at
_SHARE_OF_LOOKING = 0.02  # of a supervisor's time


@dataclass(frozen=True)
class Lines:
    """A supervisor's descriptors.

    Args:
        control: bytes from the driver; end of file = it is dead.
        driver: the driver's pidfd; -1 without.
        status: takes the last words, as one line of JSON.
        logs: take the trial's standard output and error.
        lock: of the slot, held until the trial is gone even if the driver is not there; -1 without.
    """

    control: int
    driver: int
    status: int
    logs: tuple[int, int]
    lock: int = -1


def supervise(order: Order, lines: Lines) -> NoReturn:
    """Run a trial to its end. To be called in a fresh fork of a process with one thread."""
    os.setsid()
    kernel.call_it("epigram-trial")
    if order.containment != "session":
        kernel.become_subreaper()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    Supervisor(order, lines).run()
    os._exit(0)


@final
class Supervisor:
    """See :func:`supervise`."""

    def __init__(self, order: Order, lines: Lines) -> None:
        self._order = order
        self._lines = lines
        self._main_status: int | None = None
        self._wake, wake = os.pipe()
        self._failure, failure = os.pipe()
        self._namespace_status, status = os.pipe()
        for descriptor in (self._wake, wake, self._failure, self._namespace_status):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._begun = time.monotonic()
        self._child = self._launch(failure, status)
        os.close(failure)
        os.close(status)
        self._next_look = self._begun + order.watch_s
        self._note = ""

    def run(self) -> None:
        """Wait for the trial to end or for a reason to end it; end it; say how it went."""
        reason, grace_s = self._wait()
        decided = time.monotonic()
        if grace_s > 0:
            self._ask(decided + grace_s)
        survivors = self._kill(time.monotonic() + self._order.kill_s)
        self._report(reason, time.monotonic() - decided, survivors)

    def _launch(self, failure: int, status: int) -> int:
        try:
            if self._order.cgroup:
                cgroups.make(Path(self._order.cgroup), self._order.max_processes)
            if self._order.containment == "namespace":
                return launch.start_contained(self._order, self._lines.logs, failure, status)
            return launch.start_trial(self._order, self._lines.logs, failure)
        except OSError as error:
            os.write(failure, f"{error}".encode())
            self._main_status = 127 << 8
            return 0

    # waiting

    def _wait(self) -> tuple[Reason, float]:
        """Why the trial is over or shall be, and how long it may take over ending."""
        end = None if self._order.wall_s is None else self._begun + self._order.wall_s
        while True:
            self._reap()
            if self._main_status is not None:
                return "exit", 0.0
            if asked := self._listen(min(self._next_look, end or self._next_look)):
                return asked
            if end is not None and time.monotonic() >= end:
                self._note = f"took longer than {self._order.wall_s:g} s"
                return "timeout", self._order.grace_s
            if time.monotonic() >= self._next_look and self._passes_a_limit():
                return "limit", 0.0

    def _listen(self, until: float) -> tuple[Reason, float] | None:
        """Wait for the driver's word or death, for a child to end, or until a point in time."""
        watched = [self._lines.control, self._wake]
        if self._lines.driver >= 0:
            watched.append(self._lines.driver)
        ready = select.select(watched, [], [], max(until - time.monotonic(), 0.0))[0]
        if self._wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)
        word = os.read(self._lines.control, 1) if self._lines.control in ready else None
        if word == b"" or self._lines.driver in ready:
            return "driver-lost", 0.0
        if word is not None:
            return "stopped", self._order.grace_s if word == STOP else 0.0
        return None

    def _passes_a_limit(self) -> bool:
        begun = time.monotonic()
        found, room = self._count(), _folder_bytes(Path(self._order.cwd))
        took = time.monotonic() - begun
        self._next_look = begun + max(self._order.watch_s, took / _SHARE_OF_LOOKING)
        if found > self._order.max_processes:
            self._note = f"had {found} processes, {self._order.max_processes} are allowed"
        elif room > self._order.max_bytes:
            self._note = f"wrote {room} bytes, {self._order.max_bytes} are allowed"
        return bool(self._note)

    def _count(self) -> int:
        if self._order.cgroup:
            return cgroups.processes(Path(self._order.cgroup))
        return len(processes.descendants(os.getpid()))

    # ending

    def _ask(self, until: float) -> None:
        """SIGTERM for the main process alone, and wait for it; another word of the driver's ends that."""
        if self._main_status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child, signal.SIGTERM)
        while self._main_status is None and time.monotonic() < until:
            word = self._listen(until)
            if word is not None and word[1] == 0.0:
                return
            self._reap()

    def _kill(self, deadline: float) -> int:
        """SIGKILL all there is until there is nothing, or it is given up; how many then live."""
        pause = 0.0005
        while True:
            self._kill_once()
            if not self._reap() and not self._group_lives():
                return self._kill_strays(deadline)
            if time.monotonic() >= deadline:
                return max(self._count(), 1)
            select.select([self._wake], [], [], pause)
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)
            pause = min(2 * pause, 0.02)

    def _kill_once(self) -> None:
        """Everybody we can name: the group, the session, and our children, adopted ones too.

        Killing children only is enough, and cannot meet a pid that is used again: their children become
        ours. Where orphans do not come to us, the whole tree is killed at once, while it is one.
        """
        if self._order.cgroup:
            cgroups.kill(Path(self._order.cgroup))
        if self._child and self._main_status is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child, signal.SIGKILL)
        all_below = self._order.containment == "session"
        named = processes.descendants(os.getpid()) if all_below else processes.own_children()
        for pid in named:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def _group_lives(self) -> bool:
        return bool(self._order.cgroup) and cgroups.populated(Path(self._order.cgroup))

    def _kill_strays(self, deadline: float) -> int:
        """What wears the trial's tags and is not ours: it was started by somebody else on its behalf."""
        names = ("EPIGRAM_STUDY", "EPIGRAM_RUN", "EPIGRAM_ATTEMPT")
        strays = processes.tagged({name: self._order.env[name] for name in names})
        if self._order.cgroup:
            cgroups.remove(Path(self._order.cgroup))
        return processes.kill_all(strays, within_s=deadline - time.monotonic()) if strays else 0

    def _reap(self) -> bool:
        """Bury the dead; True while any child is left, adopted ones too."""
        while True:
            try:
                pid, how = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._child:
                inside = self._order.containment == "namespace"
                told = launch.read_status(self._namespace_status) if inside else None
                self._main_status = how if told is None else told

    # telling

    def _report(self, reason: Reason, took_s: float, survivors: int) -> None:
        status = self._main_status
        with contextlib.suppress(BlockingIOError):
            if words := os.read(self._failure, 512).decode("utf-8", "replace"):
                self._note = f"{self._order.argv[0]} could not be started: {words}"
        told = {
            "run_id": self._order.run_id,
            "attempt": self._order.attempt,
            "reason": "unkillable" if survivors else reason,
            "code": os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None,
            "signal": os.WTERMSIG(status)
            if status is not None and os.WIFSIGNALED(status)
            else None,
            "t_kill_s": round(took_s, 6),
            "survivors": survivors,
            "note": self._note,
        }
        text = json.dumps(told) + "\n"
        with contextlib.suppress(OSError):  # the folder may be gone, the disk full
            beside = Path(self._order.folder) / f".exit.json.{os.getpid()}"
            beside.write_text(text, "ascii")
            beside.replace(beside.with_name("exit.json"))
        if self._lines.lock >= 0 and not survivors:
            os.close(self._lines.lock)
        with contextlib.suppress(OSError):  # the driver may be dead
            os.write(self._lines.status, text.encode("ascii"))


def _folder_bytes(folder: Path) -> int:
    """What the files below a folder take on the disk; of very many, those that are met first."""
    total, seen, todo = 0, 0, [folder]
    while todo and seen < _MOST_ENTRIES:
        with contextlib.suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                seen += 1
                if entry.is_dir(follow_symlinks=False):
                    todo.append(Path(entry.path))
                else:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total
