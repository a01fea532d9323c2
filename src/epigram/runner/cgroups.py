"""Control groups (cgroup v2): the one way to name all processes of a trial and kill them in one write.

A group per trial is made beside the processes of the driver, without controllers, which needs no more
than a folder that we may write: as root, or where systemd delegates (``Delegate=yes``).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path

_PREFIX = "epigram-"


def own_group() -> Path | None:
    """The folder of the group that this process is in; None where there is no cgroup v2."""
    try:
        entries = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
        mounts = Path("/proc/self/mountinfo").read_text("utf-8").splitlines()
    except OSError:
        return None
    inside = next((line[3:] for line in entries if line.startswith("0::")), None)
    root = next((line.split()[4] for line in mounts if " - cgroup2 " in line), None)
    if inside is None or root is None:
        return None
    folder = Path(root) / inside.lstrip("/")
    return folder if folder.is_dir() else None


def refusal() -> str | None:
    """Why trials cannot have groups of their own here; None = they can. Makes one and removes it."""
    base = own_group()
    if base is None:
        return "no cgroup v2"
    _remove_dead_probes(base)
    probe = base / f"{_PREFIX}probe-{os.getpid()}-{time.monotonic_ns()}"
    try:
        probe.mkdir()
    except OSError as error:
        return f"{base} is not ours to write ({error.strerror})"
    try:
        if not (probe / "cgroup.kill").exists():
            return "this kernel has no cgroup.kill (Linux 5.14 has)"
        (probe / "cgroup.kill").write_text("1", "ascii")
    except OSError as error:
        return f"{probe}/cgroup.kill: {error.strerror}"
    finally:
        remove(probe)
    return None


def _remove_dead_probes(base: Path) -> None:
    """Groups of those who were killed while they tried."""
    for probe in base.glob(f"{_PREFIX}probe-*"):
        pid = probe.name.split("-")[2]
        if not Path("/proc", pid).exists():
            with contextlib.suppress(OSError):
                probe.rmdir()


def name(study: str, run_id: str, attempt: int) -> str:
    """Of a trial's group."""
    return f"{_of_study(study)}{run_id}-{attempt}"


def of_study(study: str) -> list[Path]:
    """Groups that trials of a study have left, where this process's own group is."""
    base = own_group()
    return [] if base is None else sorted(base.glob(f"{_of_study(study)}*"))


def _of_study(study: str) -> str:
    """What the names of a study's groups begin with."""
    return f"{_PREFIX}{hashlib.sha256(study.encode()).hexdigest()[:12]}-"


def make(group: Path, max_processes: int) -> None:
    """A new, empty group; with a limit on its processes where the controller is on.

    Raises:
        OSError: it cannot be made.
    """
    kill(group)
    remove(group)
    group.mkdir()
    with contextlib.suppress(OSError):
        (group / "pids.max").write_text(str(max_processes), "ascii")


def join(group: Path) -> None:
    """Put this process, and with it the children it will have, into a group.

    Raises:
        OSError: the group is gone.
    """
    descriptor = os.open(group / "cgroup.procs", os.O_WRONLY)
    try:
        os.write(descriptor, b"0")
    finally:
        os.close(descriptor)


def kill(group: Path) -> None:
    """SIGKILL for every process in the group and those it is just forking; nothing if it is gone."""
    with contextlib.suppress(OSError):
        (group / "cgroup.kill").write_text("1", "ascii")


def processes(group: Path) -> int:
    """How many live processes are in it and in groups it has made; 0 if it is gone."""
    total = 0
    for path in group.glob("**/cgroup.procs"):
        with contextlib.suppress(OSError):
            total += len(path.read_bytes().split())
    return total


def populated(group: Path) -> bool:
    """Does anything live in it, or in groups it has made?"""
    with contextlib.suppress(OSError):
        return b"populated 1" in (group / "cgroup.events").read_bytes()
    return False


def remove(group: Path, *, within_s: float = 1.0) -> bool:
    """Remove an empty group, and groups within it; True when it is gone."""
    deadline = time.monotonic() + within_s
    while group.exists():
        inner = sorted((path.parent for path in group.glob("**/cgroup.procs")), reverse=True)
        for folder in [*inner, group]:
            with contextlib.suppress(OSError):  # EBUSY: what was killed is not quite gone
                folder.rmdir()
        if not group.exists():
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.002)
    return True
