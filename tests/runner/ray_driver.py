"""A driver for tests: ``python ray_driver.py <address> <folder>`` starts a hostile trial per machine and waits."""

from __future__ import annotations

import sys
from pathlib import Path

import ray
from tests.runner.hostile import HOSTILE

from epigram.runner import Job, Limits
from epigram.runner.cluster import RayExecutor


def main(address: str, folder: Path) -> None:
    ray.init(address=address, log_to_driver=False, logging_level="error")
    limits = Limits(kill_s=10.0)
    with RayExecutor(str(folder), per_machine=1, limits=limits, lost_after_s=240.0) as executor:
        for number, slot in enumerate(executor.slots()):
            name = f"r{number}"
            executor.start(Job(name, 1, HOSTILE, folder / name, {}, 60.0, None), slot)
        while True:
            executor.poll(1.0)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
