"""The allocator keeps freed blocks: a step that frees and takes the same memory faults no pages."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SCRIPT = """
import resource, sys
import torch
from epigram.train import keep_freed_memory
torch.set_num_threads(1)
agreed = keep_freed_memory() if sys.argv[1] == "kept" else None
def turn():
    for _ in range(3):
        torch.ones(1_000_000).add_(1.0)  # 4 MB: above glibc's usual threshold for mmap
for _ in range(5):
    turn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    turn()
print(agreed, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(mode: str) -> tuple[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, mode], capture_output=True, text=True, check=True
    )
    agreed, faults = done.stdout.split()
    return agreed, int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_kept_memory_is_not_faulted_in_again() -> None:
    agreed, kept = _faults("kept")
    if agreed != "True":
        pytest.skip("this C library has no mallopt")
    # one fault a page would be 60 blocks x 977 pages; a tenth of that is left for everything else
    assert kept < 5_900
