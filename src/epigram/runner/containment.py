"""How well processes can be kept together here, tried out rather than guessed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from epigram.errors import ConfigError
from epigram.runner import cgroups
from epigram.runner.kernel import LINUX
from epigram.runner.order import Containment

LEVELS: tuple[Containment, ...] = ("cgroup", "namespace", "subreaper", "session")


@dataclass(frozen=True)
class Found:
    """What ``probe`` found.

    Args:
        level: the best that works.
        refused: for each better one, why it does not.
    """

    level: Containment
    refused: dict[Containment, str]

    def __str__(self) -> str:
        why = "".join(f"; no {level}: {reason}" for level, reason in self.refused.items())
        return f"{self.level}{why}"


@cache
def probe() -> Found:
    """Try the levels from the best; each leaves nothing behind. About 50 ms, once per process."""
    refused: dict[Containment, str] = {}
    for level in LEVELS[:-1]:
        reason = refusal(level)
        if reason is None:
            return Found(level, refused)
        refused[level] = reason
    return Found("session", refused)


def refusal(level: Containment) -> str | None:
    """Why a level cannot be had here; None = it can."""
    if level == "session":
        return None
    if not LINUX:
        return f"{sys.platform} has nothing of the kind"
    if level == "cgroup":
        return cgroups.refusal()
    return _attempt(level)


def chosen(level: str | None) -> Containment:
    """``level`` if it works here; the best that does for None.

    Raises:
        ConfigError: it does not work here.
    """
    if level is None:
        return probe().level
    known = next((one for one in LEVELS if one == level), None)
    if known is None:
        raise ConfigError(f"containment: got {level!r}, expected one of {', '.join(LEVELS)}")
    reason = refusal(known)
    if reason is not None:
        raise ConfigError(
            f"containment {known}: {reason}; the best that works here is {probe().level}"
        )
    return known


_TRIES = {
    "namespace": """
import os
from epigram.runner import kernel
kernel.enter_pid_namespace()
pid = os.fork()
if pid == 0:
    try:
        kernel.mount_own_proc()
    except OSError as error:
        print(error, flush=True)
        os._exit(1)
    os._exit(0 if os.getpid() == 1 and os.readlink("/proc/self") == "1" else 2)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""",
    "subreaper": "from epigram.runner import kernel; kernel.become_subreaper()",
}


def _attempt(level: Containment) -> str | None:
    """In a process of its own, since most of it cannot be undone."""
    root = str(Path(__file__).resolve().parents[2])
    code = f"import sys; sys.path.append({root!r})\n{_TRIES[level]}"
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", code],
            capture_output=True,
            text=True,
            timeout=10.0,
            check=False,
            env=os.environ | {"LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    if done.returncode == 0:
        return None
    words = (done.stdout + done.stderr).strip().splitlines()
    return words[-1] if words else f"the attempt ended with {done.returncode}"
