"""Drivers of hostile trials are killed at random moments: what is left, and for how long?

Each kill starts a driver of its own with four trials, and sends it SIGKILL, in half of the cases while it
is still starting them. A trial ignores SIGTERM and has a helper with children, a daemon that left the session
and whose parent is dead, and another one with an empty environment. Then processes are counted until there
are none: by the tag in their environment and by a number in their command line, neither of which the
killing relies on. Also measured: how soon after a hard stop a living driver may use the slot again.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from epigram import atomic
from epigram.runner import Job, LocalExecutor, containment, kernel, processes, processor_slots
from epigram.runner.cards import NoCards
from epigram.runner.order import Containment

ROOT = Path(__file__).resolve().parents[1]
TRIALS = 4
GIVE_UP_S = 20.0
HOSTILE = """
trap '' TERM INT HUP
sh -c 'sleep {mark} & sleep {mark}' &
setsid -f sh -c 'sleep {mark} & sleep {mark} &'
env -i "$(command -v setsid)" -f "$(command -v sleep)" {mark}
touch "$EPIGRAM_ATTEMPT_DIR/ready"
exec sleep {mark}
"""
LOADERS = """
import os, pathlib, signal, torch
signal.signal(signal.SIGTERM, signal.SIG_IGN)
data = torch.utils.data.TensorDataset(torch.zeros(1000, 8))
torch.set_num_threads(1)
loader = torch.utils.data.DataLoader(data, batch_size=2, num_workers=2, persistent_workers=True)
while True:
    for batch in loader:
        pathlib.Path(os.environ["EPIGRAM_ATTEMPT_DIR"], "ready").touch()
"""


def commands(mark: str, *, with_torch: bool) -> list[tuple[str, ...]]:
    """Of the trials of one driver."""
    hostile = ("sh", "-c", HOSTILE.format(mark=mark))
    loaders = (sys.executable, "-c", LOADERS, mark)
    return [loaders if with_torch and i == 0 else hostile for i in range(TRIALS)]


def mark_of(folder: Path) -> str:
    """A duration that no other command line has: about a day, told apart by its decimals."""
    return f"86400.{random.Random(str(folder)).getrandbits(48):015d}"


def drive(folder: Path, level: Containment | None, *, with_torch: bool) -> None:
    """A driver: start the trials, then wait for ever."""
    slots = processor_slots(TRIALS, threads=1)
    executor = LocalExecutor(str(folder), slots=slots, containment=level, probe=NoCards())
    for number, argv in enumerate(commands(mark_of(folder), with_torch=with_torch)):
        run = folder / f"run-{number}"
        run.mkdir()
        executor.start(Job(run.name, 1, argv, run, {}, 20.0, None), executor.slots()[0])
    while True:
        executor.poll(10.0)


def living(folder: Path) -> dict[int, int]:
    """Every process of a driver's trials, its supervisors and its reaper; not the driver itself."""
    found = processes.tagged({"EPIGRAM_STUDY": str(folder)})
    mark = mark_of(folder).encode()
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with contextlib.suppress(OSError):
                if mark in Path("/proc", name, "cmdline").read_bytes():
                    started = processes.start_time(int(name))
                    if started is not None:
                        found[int(name)] = started
    return found


def kill_once(
    folder: Path, level: Containment | None, delay_s: float | None, *, with_torch: bool = False
) -> dict[str, Any]:
    """One driver, killed ``delay_s`` after its start; None = a moment after all its trials are ready.

    Returns:
        ``live``: processes just before; ``left``: of them and their like after ``GIVE_UP_S``;
        ``seconds``: until there were none; ``ready``: trials that had begun; ``ready_seconds``: until
        all had, if they had.
    """
    folder.mkdir(parents=True)
    begun = time.monotonic()
    parent = os.getpid()
    driver = os.fork()
    if driver == 0:
        try:
            kernel.die_with(parent)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            drive(folder, level, with_torch=with_torch)
        finally:
            os._exit(70)
    ready: list[Path] = []
    ready_s = None
    while time.monotonic() < begun + (300.0 if delay_s is None else delay_s):
        ready = list(folder.glob("run-*/attempt-0001/ready"))
        if len(ready) == TRIALS and ready_s is None:
            ready_s = time.monotonic() - begun
            if delay_s is None:
                break
        time.sleep(0.05)
    before = living(folder)
    killed = time.monotonic()
    os.kill(driver, signal.SIGKILL)
    os.waitpid(driver, 0)
    left = await_none(folder, before, killed + GIVE_UP_S)
    seconds = time.monotonic() - killed
    processes.kill_all(left, within_s=10.0)
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "live": len(before),
        "left": len(left),
        "seconds": round(seconds, 4),
        "ready": len(ready),
        "ready_seconds": None if ready_s is None else round(ready_s, 3),
        "load": os.getloadavg()[0],
    }


def await_none(folder: Path, known: dict[int, int], deadline: float) -> dict[int, int]:
    """What lives of a driver's processes at the deadline; returns as soon as nothing does.

    All of ``/proc`` is read only once those that are known are dead: reading it costs time that the
    killing needs.
    """
    while time.monotonic() < deadline:
        if all(processes.start_time(pid) != started for pid, started in known.items()):
            known = living(folder)
            if not known:
                return {}
        time.sleep(0.002)
    return living(folder)


def stop_slots(folder: Path, level: Containment | None, count: int) -> Iterator[dict[str, Any]]:
    """Hard stops of hostile trials under a living driver: seconds until the slot is free."""
    slots = processor_slots(1, threads=1)
    with LocalExecutor(str(folder), slots=slots, containment=level, probe=NoCards()) as executor:
        for number in range(count):
            run = folder / f"run-{number}"
            run.mkdir(parents=True)
            argv = commands(mark_of(folder), with_torch=False)[0]
            handle = executor.start(
                Job(run.name, 1, argv, run, {}, 20.0, None), executor.slots()[0]
            )
            while not (run / "attempt-0001" / "ready").exists():
                time.sleep(0.005)
            begun = time.monotonic()
            executor.stop(handle, hard=True)
            (end,) = executor.poll(GIVE_UP_S)
            free = len(executor.slots())
            seconds = time.monotonic() - begun
            yield {
                "seconds": round(seconds, 4),
                "supervisor_seconds": round(end.t_kill_s, 4),
                "free": free,
                "left": len(processes.tagged({"EPIGRAM_RUN_DIR": str(run.resolve())})),
                "load": os.getloadavg()[0],
            }
    shutil.rmtree(folder, ignore_errors=True)


def quantiles(values: Sequence[float]) -> dict[str, float | int]:
    """p50, p99 (the value that 99 % do not exceed), max, n."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        "p50": ordered[round(0.5 * last)],
        "p99": ordered[min(-(-99 * len(ordered) // 100) - 1, last)],
        "max": ordered[-1],
        "n": len(ordered),
    }


def figures(rows: Sequence[dict[str, Any]], stops: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the JSON says of all kills so far."""
    told: dict[str, Any] = {}
    for name, chosen in (
        ("all", rows),
        ("with_torch", [row for row in rows if row["torch"]]),
        ("while_starting", [row for row in rows if row["ready"] < TRIALS]),
    ):
        if chosen:
            told[name] = {
                "kills": len(chosen),
                "processes_before": sum(row["live"] for row in chosen),
                "processes_left": sum(row["left"] for row in chosen),
                "seconds_to_zero": quantiles([row["seconds"] for row in chosen]),
            }
    if stops:
        told["slot_free_seconds"] = quantiles([row["seconds"] for row in stops])
        told["kill_seconds_in_supervisor"] = quantiles([row["supervisor_seconds"] for row in stops])
        told["left_after_stops"] = sum(row["left"] for row in stops)
    told["load_average"] = quantiles([row["load"] for row in [*rows, *stops]])
    return told


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a file that a killed benchmark may have left in the middle of one."""
    rows = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):  # torn, perhaps with the next one behind it
            rows.append(json.loads(line))
    return rows


def append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def kill_many(
    out: Path, level: Containment | None, kills: int, torch_kills: int, pause_s: float
) -> None:
    """Those kills that ``out`` does not have yet; a row each."""
    path = out / "kills.jsonl"
    rows = read_rows(path)
    done = {row["number"] for row in rows}
    took = [row["ready_seconds"] for row in rows if row["ready_seconds"] is not None]
    for number in range(kills):
        if number in done:
            continue
        chance = random.Random(number)
        with_torch = number >= kills - torch_kills
        usual = sorted(took)[len(took) // 2] if took else 1.0
        early = chance.random() < 0.5 and bool(took) and not with_torch
        delay = chance.uniform(0.0, usual) if early else None
        folder = Path(tempfile.mkdtemp(prefix="epigram-kills-")) / "study"
        row = kill_once(folder, level, delay, with_torch=with_torch)
        folder.parent.rmdir()
        if row["ready_seconds"] is not None and not with_torch:
            took.append(row["ready_seconds"])
        append(path, {"number": number, "torch": with_torch, **row})
        time.sleep(pause_s)


def stop_many(out: Path, level: Containment | None, stops: int, pause_s: float) -> None:
    """Those stops that ``out`` does not have yet; a row each."""
    path = out / "stops.jsonl"
    missing = stops - len(read_rows(path))
    if missing > 0:
        folder = Path(tempfile.mkdtemp(prefix="epigram-stops-")) / "study"
        for row in itertools.islice(stop_slots(folder, level, missing), missing):
            append(path, row)
            time.sleep(pause_s)


def origin() -> dict[str, Any]:
    """``record.origin`` of this command, taken in another process: it needs torch, drivers do not."""
    code = (
        "import json, sys; from benchmarks import record; "
        "print(json.dumps(record.origin(seeds=[0], argv=json.loads(sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(sys.argv)],
        cwd=ROOT, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
    )  # fmt: skip
    return dict(json.loads(done.stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--torch", type=int, default=100, help="of them, with data-loader workers")
    parser.add_argument("--stops", type=int, default=200)
    parser.add_argument("--containment", choices=containment.LEVELS, default=None)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two kills")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "kills", help="rows so far")
    parser.add_argument("--quick", action="store_true", help="ten kills, not recorded")
    flags = parser.parse_args()
    level = containment.chosen(flags.containment)
    if flags.quick:
        flags.kills, flags.torch, flags.stops = 10, 0, 5
        flags.out = Path(tempfile.mkdtemp(prefix="epigram-kills-quick-"))
    out = flags.out / level
    out.mkdir(parents=True, exist_ok=True)
    about_path = out / "origin.json"
    if not flags.quick and not about_path.exists():
        atomic.write_json(about_path, origin())
    stop_many(out, level, flags.stops, flags.pause)
    kill_many(out, level, flags.kills, flags.torch, flags.pause)
    found = figures(read_rows(out / "kills.jsonl"), read_rows(out / "stops.jsonl"))
    told = {"containment": level, "trials_per_driver": TRIALS, "asked": flags.kills, **found}
    print(json.dumps(told, indent=2))
    if not flags.quick:
        about = json.loads(about_path.read_text("utf-8"))
        name = "kills" if flags.containment is None else f"kills_{level}"
        atomic.write_json(
            ROOT / "benchmarks" / "results" / f"{name}.json",
            {"benchmark": name, **about, **told, "niceness": os.nice(0)},
        )


if __name__ == "__main__":
    main()
