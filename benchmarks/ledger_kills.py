"""A ledger under random kills: is anything lost that was acknowledged, and what does a trial cost the driver?

python benchmarks/ledger_kills.py --events 10000
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import record

sys.path.insert(0, str(record.ROOT))
from tests.search import toy
from tests.search.killed_ledger import acknowledged_under_kills

from epigram.search.ledger import Ledger, read
from epigram.search.study import Study

SAMPLERS = ("tpe", "gp")


def driver_cost(folder: Path, trials: int, *, forecasts: bool = False) -> dict[str, float]:
    """Milliseconds of processor and of wall time that a trial costs: ask, folders, five events.

    With forecasts: and a curve of 20 points, and three forecasts of its end.
    """
    behave = lambda job: toy.trial(job, with_curve=forecasts, seconds=0.01)  # noqa: E731
    if forecasts:
        import sklearn.ensemble  # noqa: F401 - loaded once, not once a trial
    with toy.open_study(folder, forecasts=forecasts) as study:
        wall, processor = time.perf_counter(), time.process_time()
        toy.drive(study, trials, behaviour=behave)
        return {
            "trials": trials,
            "wall_ms": round(1000 * (time.perf_counter() - wall) / trials, 3),
            "processor_ms": round(1000 * (time.process_time() - processor) / trials, 3),
        }


def resumed(folder: Path, trials: int, *, sampler: str) -> dict[str, int]:
    """Cut the ledger of a serial study after random events; are the proposals that follow the same?"""
    import random
    import shutil

    def serve(study: Study) -> list[dict]:
        while len(study) < trials:
            asked = study.ask()
            error, size = toy.noisy(asked.values, asked.seed)
            study.tell(asked, accuracy=1 - error, size_bytes=size, examples=toy.EXAMPLES)
        return [dict(trial.values) for trial in study.history.search()]

    with toy.open_study(folder / "whole", sampler=sampler) as study:
        expected = serve(study)
    path = folder / "whole" / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    chance, same = random.Random(0), 0
    cuts = sorted(chance.sample(range(2, len(lines)), 12))
    for cut in cuts:
        where = folder / f"cut-{cut}"
        shutil.copytree(folder / "whole", where)
        (where / "ledger.jsonl").write_bytes(
            b"".join(lines[:cut]) + lines[cut][: len(lines[cut]) // 2]
        )
        with toy.open_study(where, sampler=sampler) as study:
            same += serve(study) == expected
    return {"resumed": len(cuts), "identical": same}


def append_cost(folder: Path, count: int) -> float:
    """Milliseconds of one durable event."""
    with Ledger(folder) as ledger:
        began = time.perf_counter()
        for _ in range(count):
            ledger.append("told", {"run_id": "x" * 16, "metric": 0.5, "size": 1234.0})
        return round(1000 * (time.perf_counter() - began) / count, 4)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--trials", type=int, default=1_000)
    parser.add_argument("--out", type=Path, help="where results of --quick go")
    parser.add_argument("--quick", action="store_true", help="seconds")
    options = parser.parse_args(argv)
    if options.quick:
        options.events, options.trials = 100, 50
    about = record.origin(seeds=[0])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counts = acknowledged_under_kills(folder / "kills", events=options.events, seed=0)
        again = {name: resumed(folder / name, 14, sampler=name) for name in SAMPLERS}
        cost = driver_cost(folder / "cost", options.trials)
        dear = driver_cost(folder / "dear", options.trials, forecasts=True)
        append_ms = append_cost(folder / "append", 200)
        began = time.perf_counter()
        events = read(folder / "kills")
        read_ms = round(1000 * (time.perf_counter() - began), 1)
    figures = {
        **{
            name: getattr(counts, name)
            for name in ("acknowledged", "kills", "lost", "unacknowledged")
        },
        "append_ms": append_ms,
        "read_ms": read_ms,
        "events_read": len(events),
        "proposals": again,
        "driver": cost,
        "driver_with_forecasts": dear,
    }
    folder = (
        (options.out or Path(tempfile.gettempdir())) / "results"
        if options.quick
        else record.RESULTS
    )
    path = record.write_result("ledger_kills", about, figures, folder=folder)
    print(
        f"{counts.acknowledged} events acknowledged under {counts.kills} kills, {counts.lost} lost"
    )
    for name, found in again.items():
        print(f"{name}, resumed: {found['identical']} of {found['resumed']} propose the same")
    print(f"a trial costs {cost}; with forecasts {dear}")
    print(f"written to {path}")
    same = all(found["identical"] == found["resumed"] for found in again.values())
    return 0 if counts.lost == 0 and same else 1


if __name__ == "__main__":
    sys.exit(main())
