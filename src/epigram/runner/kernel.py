"""What Linux offers beyond the standard library, by ctypes; on other systems it says that it cannot."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

LINUX = sys.platform == "linux"

_SET_PDEATHSIG, _SET_NAME, _SET_CHILD_SUBREAPER = 1, 15, 36  # prctl(2)
_NEWNS, _NEWUSER, _NEWPID = 0x0002_0000, 0x1000_0000, 0x2000_0000  # unshare(2)
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_SLAVE = 2, 4, 8, 0x4000, 0x8_0000  # mount(2)

_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """From now on orphaned descendants become children of this process, not of pid 1.

    Raises:
        OSError: the kernel does not know how (Linux before 3.4, and every other system).
    """
    _prctl(_SET_CHILD_SUBREAPER, 1)


def call_it(name: str) -> None:
    """What ``ps -o comm`` shows for this process, up to 15 characters; nothing where that cannot be."""
    if LINUX:
        _libc.prctl(_SET_NAME, ctypes.c_char_p(name.encode("ascii")), 0, 0, 0)


def die_with(parent: int) -> None:
    """Be killed when the *thread* that forked this process ends; end now if it has ended already.

    To be called after fork and before exec, in a child of a process with one thread.
    """
    if LINUX:
        ask_to_die_with_parent()
        if os.getppid() != parent:
            os._exit(127)


def ask_to_die_with_parent() -> None:
    """Only the first half of :func:`die_with`: too late if the parent is dead.

    Raises:
        OSError: not Linux.
    """
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)


def open_pidfd(pid: int) -> int | None:
    """A descriptor that becomes readable when ``pid`` ends; None where there is no such thing.

    Raises:
        ProcessLookupError: there is no such process.
    """
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:  # Linux before 5.3, or a filter of system calls
        return None


def enter_pid_namespace() -> None:
    """The next child of this process is pid 1 of its own namespace: when it dies, all in it die.

    An ordinary user gets a user namespace around it, with the same user and group in it as outside.

    Raises:
        OSError: the kernel or its administrator does not allow it.
    """
    user, group = os.geteuid(), os.getegid()
    _unshare(_NEWPID if user == 0 else _NEWPID | _NEWUSER)
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny", "ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", "ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", "ascii")


def mount_own_proc() -> None:
    """In pid 1 of a namespace: let ``/proc`` show this namespace, for it and its children alone.

    Raises:
        OSError: not allowed, as in a container whose ``/proc`` is partly hidden.
    """
    _unshare(_NEWNS)
    _mount(b"none", b"/", None, _MS_REC | _MS_SLAVE)
    _mount(b"proc", b"/proc", b"proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def _prctl(option: int, value: int) -> None:
    if not LINUX:
        raise OSError(f"prctl: not on {sys.platform}")
    _checked(_libc.prctl(option, value, 0, 0, 0), "prctl")


def _unshare(flags: int) -> None:
    if not LINUX:
        raise OSError(f"unshare: not on {sys.platform}")
    _checked(_libc.unshare(flags), "unshare")


def _mount(source: bytes, target: bytes, kind: bytes | None, flags: int) -> None:
    _checked(_libc.mount(source, target, kind, ctypes.c_ulong(flags), None), "mount")


def _checked(answer: int, name: str) -> None:
    if answer != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
