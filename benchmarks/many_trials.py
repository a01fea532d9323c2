"""A thousand trials of ten milliseconds: what one costs its driver, and whether memory stays flat.

The trial is ``sleep 0.01``. Costs are processor seconds, which a busy machine changes little; the driver's are
those of start, poll and slots together, without a search above them.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from kills import origin, quantiles

from epigram import atomic
from epigram.runner import Job, LocalExecutor, processor_slots
from epigram.runner.cards import NoCards

ROOT = Path(__file__).resolve().parents[1]


def kib(pid: int, field: str) -> int:
    """``VmRSS`` or ``VmHWM`` of a process, or its ``Pss`` (shared pages divided among those who share)."""
    place = "smaps_rollup" if field == "Pss" else "status"
    for line in Path("/proc", str(pid), place).read_text("ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise ValueError(f"{pid} has no {field}")


def processor_seconds(pid: int) -> float:
    """Of a process and of those of its children that it has buried."""
    fields = Path("/proc", str(pid), "stat").read_text("ascii").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def measure(folder: Path, count: int) -> dict[str, Any]:
    """Trials one after the other in one slot."""
    slots = processor_slots(1, threads=1)
    with LocalExecutor(str(folder), slots=slots, probe=NoCards()) as executor:
        costs: list[float] = []
        memory: list[dict[str, int]] = []
        supervisor: dict[str, int] = {}
        begun = time.monotonic()
        for number in range(count):
            run = folder / f"run-{number}"
            run.mkdir(parents=True)
            before = time.process_time()
            job = Job(run.name, 1, ("sleep", "0.01"), run, {}, 1.0, 60.0)
            handle = executor.start(job, executor.slots()[0])
            cost = time.process_time() - before
            if not supervisor:
                supervisor = {name: kib(handle.lease.pid, name) for name in ("VmRSS", "Pss")}
            before = time.process_time()
            ends = executor.poll(60.0)
            costs.append(cost + time.process_time() - before)
            if not ends[0].ok:
                raise RuntimeError(f"trial {number}: {ends[0]}")
            if number + 1 in (count // 10, count):
                reaper = executor.reaper_pid or 0
                memory.append({"driver": kib(os.getpid(), "VmRSS"), "reaper": kib(reaper, "VmRSS")})
        reaper_s = processor_seconds(executor.reaper_pid or 0)
        return {
            "trials": count,
            "containment": executor.containment,
            "driver_milliseconds": quantiles([round(1e3 * cost, 2) for cost in costs]),
            "reaper_and_supervisor_milliseconds_mean": round(1e3 * reaper_s / count, 2),
            "resident_kib_after_a_tenth": memory[0],
            "resident_kib_at_the_end": memory[-1],
            "supervisor_kib": supervisor,
            "seconds": round(time.monotonic() - begun, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="twenty trials, not recorded")
    flags = parser.parse_args()
    about = {} if flags.quick else origin()
    with tempfile.TemporaryDirectory(prefix="epigram-trials-") as folder:
        told = measure(Path(folder), 20 if flags.quick else flags.trials)
    told["load_average"] = os.getloadavg()[0]
    print(json.dumps(told, indent=2))
    if not flags.quick:
        atomic.write_json(
            ROOT / "benchmarks" / "results" / "many_trials.json",
            {"benchmark": "many_trials", **about, **told},
        )


if __name__ == "__main__":
    main()
