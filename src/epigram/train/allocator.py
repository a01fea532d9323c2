"""Keep freed memory in the process: a training step frees and takes the same blocks again and again.

glibc gives large blocks back to the kernel as soon as they are freed, so every step pays for thousands of
page faults. Two of its parameters switch that off. It is a property of the whole process; so the command line
and the benchmarks ask for it, and importing or calling the library never does.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEEP_BYTES = 512 * 2**20


def keep_freed_memory() -> bool:
    """Ask the C library to keep blocks of up to 512 MiB when they are freed.

    Returns:
        True if it agreed; False where there is no ``mallopt`` (macOS, Windows, musl).

    References:
        mallopt(3): M_TRIM_THRESHOLD, M_MMAP_THRESHOLD.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    # glibc caps the mmap threshold at half of a heap's 64 MiB; larger requests are refused
    return bool(mallopt(_MMAP_THRESHOLD, 32 * 2**20)) and bool(
        mallopt(_TRIM_THRESHOLD, _KEEP_BYTES)
    )
