"""The driver's end: a root reaper, and a line to each supervisor."""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from epigram.errors import ExecutorError
from epigram.runner import processes
from epigram.runner.kernel import open_pidfd
from epigram.runner.order import Order
from epigram.runner.supervisor import KILL, STOP

_BOOT = "import sys; sys.path.append({root!r}); from epigram.runner.reaper import main; main()"  # no site, no environment, no folder of the caller's on the path
_PACKETS = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM


@final
class Line:
    """To one supervisor: it is told to stop, it tells how it ended."""

    def __init__(self, control: int, status: int) -> None:
        self.status = status
        self._control = control
        self._text = b""

    def ask(self, *, hard: bool) -> None:
        """Ask for the end, in order or at once; nothing if the supervisor is gone."""
        with contextlib.suppress(OSError):
            os.write(self._control, KILL if hard else STOP)

    def hear(self) -> dict[str, Any] | None:
        """The supervisor's last words if they are there; {} = it will never say them."""
        try:
            while chunk := os.read(self.status, 4096):
                self._text += chunk
        except BlockingIOError:
            if not self._text.endswith(b"\n"):
                return None
        with contextlib.suppress(ValueError):
            told = json.loads(self._text)
            if isinstance(told, dict):
                return told
        return {}

    def close(self) -> None:
        """Let go of both ends; a supervisor that still lives takes it for our death."""
        for descriptor in (self._control, self.status):
            os.close(descriptor)


@final
class Reaping:
    """A root reaper of this process's; started when first needed, and again should it die.

    Args:
        tags: of its environment, by which a sweep would find it.
    """

    def __init__(self, tags: Mapping[str, str]) -> None:
        self._tags = dict(tags)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._count = 0
        self._gone: dict[int, int] = {}
        self._running: dict[int, tuple[int, int]] = {}

    @property
    def pid(self) -> int | None:
        """Of the reaper; None when none lives."""
        alive = self._process is not None and self._process.poll() is None
        return self._process.pid if self._process is not None and alive else None

    @property
    def descriptor(self) -> int | None:
        """Becomes readable when ``gone`` has news."""
        return self._socket.fileno() if self._socket is not None else None

    def launch(
        self, order: Order, logs: tuple[int, int], lock: int | None, *, within_s: float = 10.0
    ) -> tuple[Line, int, int, int]:
        """Start a supervisor: the line to it, its pid and start time, and its number here.

        Raises:
            ExecutorError: the reaper does not answer.
        """
        if self.pid is None or self._socket is None:
            self._start()
        self._count += 1
        number = self._count
        theirs_control, control = os.pipe()
        status, theirs_status = os.pipe()
        os.set_blocking(status, False)
        written = _in_memory(order.to_bytes())
        handed = [written, theirs_control, theirs_status, *logs, *([] if lock is None else [lock])]
        line = Line(control, status)
        try:
            self._send(number, handed)
            pid, started = self._answer(number, time.monotonic() + within_s)
        except (OSError, ExecutorError) as error:
            line.close()
            raise ExecutorError(
                f"the process that starts trials does not answer ({error}); is there memory, and "
                f"room for processes (`ulimit -u`)?"
            ) from error
        finally:
            for descriptor in (written, theirs_control, theirs_status):
                os.close(descriptor)
        return line, pid, started, number

    def listen(self) -> None:
        """Take in what the reaper has said, without waiting."""
        self._listen(0.0)

    def gone(self, number: int) -> int | None:
        """How much is left of a supervisor that was killed, once the reaper has cleaned up after it.

        None = not yet. 0 also when there is no reaper to ask.
        """
        self._listen(0.0)
        if number in self._gone:
            return self._gone.pop(number)
        return 0 if self.pid is None else None

    def close(self, *, within_s: float) -> None:
        """Let the reaper end, wait for it, and kill it if it does not."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            try:
                self._process.wait(within_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(1.0)
            self._process = None

    def _start(self) -> None:
        if self._process is not None:
            self.close(within_s=0.0)
        ours, theirs = socket.socketpair(socket.AF_UNIX, _PACKETS)
        driver = open_pidfd(os.getpid())
        root = str(Path(__file__).resolve().parents[2])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOT.format(root=root), str(theirs.fileno()),
                 str(-1 if driver is None else driver)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=os.environ | self._tags,
                cwd="/",
                pass_fds=[theirs.fileno(), *([] if driver is None else [driver])],
                start_new_session=True,
            )  # fmt: skip
        if driver is not None:
            os.close(driver)
        ours.setblocking(False)
        self._socket = ours

    def _send(self, number: int, handed: list[int]) -> None:
        assert self._socket is not None
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", handed))
        self._socket.sendmsg([json.dumps({"n": number}).encode("ascii")], [rights])

    def _answer(self, number: int, deadline: float) -> tuple[int, int]:
        while number not in self._running:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ExecutorError("no answer in time")
            self._listen(left)
            if number not in self._running and self.pid is None:
                raise ExecutorError("it has ended")
        return self._running.pop(number)

    def _listen(self, timeout_s: float) -> None:
        """Take in what the reaper has said."""
        if self._socket is None:
            return
        ready = select.poll()
        ready.register(self._socket, select.POLLIN)
        ready.poll(1000 * timeout_s)
        while True:
            try:
                text = self._socket.recv(4096)
            except OSError:
                return
            if not text:  # the reaper is dead
                self._socket.close()
                self._socket = None
                return
            told = json.loads(text)
            if "gone" in told:
                self._gone[told["gone"]] = told["survivors"]
            else:
                self._running[told["n"]] = told["pid"], told["start_time"]


def driver_tag() -> str:
    """Names this process once and for all: pid, start time, boot."""
    pid = os.getpid()
    return f"{pid}:{processes.start_time(pid)}:{processes.boot_id()}"


def _in_memory(data: bytes) -> int:
    """A descriptor of a file that has no name, holding ``data``."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("epigram-order")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(data)
    return descriptor
