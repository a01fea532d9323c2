"""Compresses twice: in one go, and killed again and again. Prints how often it was killed.

``killed_compress.py <whole> <killed> <seed>``. Children are forked from this process, which has everything
imported and has computed nothing.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from tests.pipeline.tiny_recipe import bits_settings, recipe

from epigram import report
from epigram.pipeline import compress_recipe

KILLS = 5


def started(folder: Path) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        report.build = lambda folder: None
        compress_recipe(recipe(settings=bits_settings()), folder=folder, progress=None)
        code = 0
    finally:
        os._exit(code)


def ended(child: int) -> bool:
    """Wait for a child; True if it finished by itself, False if it was killed."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


def main() -> None:
    whole, killed, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    begin = time.monotonic()
    assert ended(started(whole))
    seconds = time.monotonic() - begin
    rng, kills = random.Random(seed), 0
    for _ in range(KILLS):
        child = started(killed)
        time.sleep(rng.uniform(0.05, 0.6) * seconds)
        os.kill(child, signal.SIGKILL)
        kills += not ended(child)
    assert ended(started(killed))
    print(kills)


if __name__ == "__main__":
    main()
