"""A driver for tests: ``python driver.py <folder> <mode> <level>``.

``hostile`` starts four trials and waits; ``listens`` starts two that save when asked, and winds them down
when it is asked itself; ``deaf`` likewise, with trials that do not listen. ``forks`` has a child besides,
which holds copies of all its descriptors. Trials that are ``nameless`` have a daemon without their tags.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from pathlib import Path

from tests.runner.trees import HOSTILE

from epigram.runner import Interrupts, Job, LocalExecutor, processor_slots, wind_down

SAVES = "trap 'echo saved > checkpoint; exit 0' TERM; touch $EPIGRAM_ATTEMPT_DIR/ready; sleep 0.1"

NAMELESS = """
env -i setsid sh -c ': > "$0/ready"; exec tail -f "$0/ready" > /dev/null' "$EPIGRAM_ATTEMPT_DIR" &
sleep 1000
"""
"""The daemon itself says that it is ready: before it is `sh`, it is an `env` that still has the tags. It never forks:
between fork and exec a child has its command line too."""


def main(folder: Path, mode: str, level: str) -> int:
    argv = {
        "listens": ("sh", "-c", f"{SAVES}; while :; do sleep 0.05; done"),
        "nameless": ("sh", "-c", NAMELESS),
    }.get(mode, HOSTILE)
    count = 4 if mode == "hostile" else 2
    executor = LocalExecutor(str(folder), slots=processor_slots(count), containment=level)  # type: ignore[arg-type]
    with executor, Interrupts() as interrupts:
        handles = [
            executor.start(Job(f"r{i}", 1, argv, folder / f"r{i}", {}, 60.0, None), slot)
            for i, slot in enumerate(executor.slots())
        ]
        leases = [dataclasses.asdict(one.lease) for one in handles]
        beside = folder / "leases.tmp"
        beside.write_text(json.dumps({"leases": leases, "reaper": executor.reaper_pid}))
        beside.replace(folder / "leases.json")
        if mode == "forks" and os.fork() == 0:
            time.sleep(60.0)
            os._exit(0)
        while interrupts.requested is None:
            executor.poll(0.1)
        wind_down(executor, handles, interrupts, within_s=120.0)
    return interrupts.exit_code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
