"""A process that writes events until it is killed, and what it had acknowledged by then."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import epigram
from epigram.search.ledger import read

WRITER = """
import sys
from epigram.search.ledger import Ledger
with Ledger(sys.argv[1]) as ledger:
    print("ready", flush=True)
    while True:
        event = ledger.append("told", {"run_id": "x" * 30, "metric": 0.5})
        sys.stdout.write(f"{event.seq}\\n")
        sys.stdout.flush()
"""


@dataclass
class Counts:
    kills: int = 0
    acknowledged: int = 0
    lost: int = 0
    unacknowledged: int = 0


def acknowledged_under_kills(folder: Path, *, events: int, seed: int, kills: int = 1) -> Counts:
    """Write with kills at random moments until so many are done and so many events acknowledged."""
    chance = random.Random(seed)
    counts = Counts()
    last = 0
    while last < events or counts.kills < kills:
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(epigram.__file__).parents[1])},
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            wait = chance.expovariate(1 / 0.03)
            target = last + chance.randint(1, max(1, min(200, events // 4)))
            for line in writer.stdout:
                last = int(line)
                if last >= target:
                    break
            time.sleep(wait)
            writer.send_signal(signal.SIGKILL)
            last = max([last, *(int(x) for x in writer.stdout.read().split("\n")[:-1])])
        counts.kills += 1
        there = len(read(folder))
        counts.lost += max(0, last - there)
        counts.unacknowledged += max(0, there - last)
        last = there
    counts.acknowledged = last
    return counts
