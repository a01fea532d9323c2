"""Searches and forecasts replayed on a table of curves: which method finds the smallest file soonest?

    python benchmarks/search_replay.py --digits 400         makes a table of its own, in a minute
    python benchmarks/search_replay.py --table runs/bench/search_lenet/curves.jsonl

A method proposes values; the nearest trial of the table that it has not had yet is what it gets, with its
curve. Cost is counted in epochs, so that what stops trials early may have more of them. Forecasts are made
for each trial from those before it, in random orders of the table.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import record
from search_ratios import compared
from search_replay_forecasts import forecasts
from search_replay_table import Table, digits_table, stored_table

from epigram.search import Outcome, StopRule, Trial
from epigram.search.alarm import alarms
from epigram.search.calibration import Judged, calibration
from epigram.search.choosing import propose
from epigram.search.forecasting import Forecasting, Looked, as_event
from epigram.search.history import History
from epigram.search.stopping import Hyperband, imputed

LOOKS = (0.25, 0.5, 0.75)
METHODS = ("tpe", "gp", "random", "hyperband", "tpe+forecast", "gp+forecast")


def replay(table: Table, method: str, *, seed: int, trials: int) -> dict[str, Any]:
    """One search, until it has spent as many epochs as ``trials`` whole trials take."""
    sampler, _, stopping = method.partition("+")
    stopping = "hyperband" if method == "hyperband" else stopping
    sampler = "random" if method == "hyperband" else sampler
    rule, band = StopRule(audit_share=0.1), Hyperband()
    forecasting = Forecasting(table.objective, table.space, looks=LOOKS)
    history, left = History(), set(range(len(table.trials)))
    encoded, budget = table.encoded(), trials * table.steps
    spent, path, stopped, wrong = 0, [], 0, 0
    best = math.inf
    first = table.space.nearest(table.trials[0]["values"])
    audit = np.random.default_rng(seed)
    while spent < budget and left:
        values, _ = propose(
            sampler, table.space, history.search(), table.objective, study_seed=seed, first=first
        )
        wanted = np.array(table.space.encode(values))
        order = sorted(left, key=lambda r: float(((encoded[r] - wanted) ** 2).sum()))
        row = order[0] if len(history) or method == "random" else 0
        left.discard(row)
        trial = table.trial(row, len(history))
        trial.audit = audit.random() < rule.audit_share
        history.trials[trial.run_id] = trial
        outcome = table.outcome(row)
        for step in range(1, table.steps + 1):
            trial.points.setdefault(1, []).append(table.point(row, step))
            spent += 1
            if stopping == "hyperband" and band.stops(trial, history.search(), table.objective):
                last = trial.points[1][-1]
                outcome = Outcome("stopped", last.metric, last.size)
                break
            why = stopping == "forecast" and _hopeless(
                table, history, trial, forecasting, rule, best
            )
            if why and not trial.audit:
                metric, size = imputed(trial.forecasts[-1], table.objective)
                outcome = Outcome("stopped", metric, size)
                break
        history.settle(trial, outcome)
        actual = table.outcome(row)
        useful = table.objective.feasible(actual.metric, examples=table.examples)
        if outcome.kind == "stopped":
            stopped += 1
            wrong += bool(useful and actual.size < best)
        elif useful and actual.size < best:
            best = actual.size
        path.append((spent, best if math.isfinite(best) else None))
    return {
        "method": method,
        "seed": seed,
        "path": path,
        "best": best if math.isfinite(best) else None,
        "trials": len(history),
        "stopped": stopped,
        "wrongly_stopped": wrong,
    }


def _hopeless(
    table: Table,
    history: History,
    trial: Trial,
    forecasting: Forecasting,
    rule: StopRule,
    best: float,
) -> bool:
    hopeless = False
    for look in forecasting.due(trial):
        looked: Looked | None = forecasting.look(trial, history, look)
        if looked is None:
            trial.forecasts.append({"look": look})
            continue
        trial.forecasts.append({**as_event(trial, looked, table.objective), "seq": 0})
        finished = len(history.finished)
        size = best if math.isfinite(best) else None
        hopeless = rule.hopeless(looked, table.objective, size, finished=finished) or hopeless
    return hopeless


_TABLES: list[Table] = []
"""Set before the processes are forked, so that tables need not be sent to them."""


def replay_of(method: str, **more: int) -> dict[str, Any]:
    """``replay`` in another process."""
    return replay(_TABLES[0], method, **more)


def forecasts_of(**more: Any) -> list[Judged]:
    """``forecasts`` in another process."""
    return forecasts(_TABLES[0], **more)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, help="curves kept by search_lenet.py")
    parser.add_argument("--digits", type=int, default=300, help="or so many trials on digits")
    parser.add_argument(
        "--methods", nargs="+", default=["tpe", "random", "hyperband"], choices=METHODS
    )
    parser.add_argument("--searches", type=int, default=20)
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--every", type=int, default=1, help="forecast each so many-th trial")
    parser.add_argument("--name", default="search_replay", help="of the result")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument(
        "--out", type=Path, default=record.ROOT / "runs" / "bench" / "search_replay"
    )
    parser.add_argument("--quick", action="store_true", help="seconds; results go below --out")
    options = parser.parse_args(argv)
    if options.quick:
        options.digits, options.searches, options.trials = 40, 2, 12
        options.every = 9
    seeds = list(range(options.searches))
    about = record.origin(seeds=seeds)
    table = (
        digits_table(options.digits, options.out)
        if options.table is None
        else stored_table(options.table)
    )
    began = time.monotonic()
    _TABLES.append(table)
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        searching = [
            pool.submit(replay_of, method, seed=seed, trials=options.trials)
            for seed in seeds
            for method in options.methods
        ]
        parts = [k for k in range(0, 4 * options.every, options.every) if options.every < 9] or [0]
        stride = options.every * len(parts)
        told = [
            pool.submit(forecasts_of, order=0, look=look, every=stride, part=part)
            for look in LOOKS
            for part in parts
        ]
        few = max(2, len(table.trials) // 15)
        leaked = [
            pool.submit(forecasts_of, order=0, look=look, every=few, leak=True)
            for look in LOOKS[:2]
        ]
        runs = [one.result() for one in searching]
        honest = calibration([row for one in told for row in one.result()], table.objective)
        leaky = calibration([row for one in leaked for row in one.result()], table.objective)
    against = "random" if "random" in options.methods else options.methods[0]
    figures = {
        "table": {"name": table.name, "trials": len(table.trials), "steps": table.steps},
        "floor": str(table.objective.floor),
        "feasible_in_table": sum(
            table.objective.feasible(t["accuracy"], examples=table.examples) for t in table.trials
        ),
        "trials_per_search": options.trials,
        "methods": compared(runs, against),
        "forecasts": [report.plain() for report in honest],
        "alarms": [one.sentence for one in alarms(honest)],
        "leak": {
            "forecasts": [report.plain() for report in leaky],
            "alarms": [one.sentence for one in alarms(leaky)],
        },
        "seconds": round(time.monotonic() - began, 1),
        "jobs": options.jobs,
    }
    folder = options.out / "results" if options.quick else record.RESULTS
    path = record.write_result(options.name, about, figures, folder=folder)
    for method, row in figures["methods"].items():
        print(f"{method}: {row['size']['median']:.0f} bytes, {row[f'ratio_to_{against}']}")
    for report in honest:
        print(
            f"forecast at {report.look:.0%} (n {report.n}): r {report.correlation:.3f}, MAE {report.mae:.4f} "
            f"(last value {report.mae_last:.4f}), inside 90 %: {report.coverage[0.9][0]:.2f}"
        )
    print(f"leaky: {len(figures['leak']['alarms'])} alarms; written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
