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
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import digits_trials
import numpy as np
import record

from epigram.records import Floor
from epigram.search import Objective, Outcome, Point, Space, StopRule, Trial, features
from epigram.search.alarm import alarms
from epigram.search.calibration import Judged, calibration
from epigram.search.choosing import propose
from epigram.search.curves import FinishedCurve, Prefix, finished_curve
from epigram.search.forecaster import Forecaster
from epigram.search.forecasting import LEVELS, Forecasting, Looked, as_event
from epigram.search.history import History
from epigram.search.stopping import Hyperband, imputed

LOOKS = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Table:
    """Curves, and what they are of."""

    name: str
    space: Space
    objective: Objective
    trials: list[dict[str, Any]]
    examples: int
    warmup: int

    @property
    def steps(self) -> int:
        return len(self.trials[0]["curve"])

    def encoded(self) -> np.ndarray:
        return np.array([self.space.encode(self.space.nearest(t["values"])) for t in self.trials])

    def trial(self, row: int, number: int) -> Trial:
        """A row as a trial that has just begun."""
        name = f"run-{row:04d}"
        values = self.space.nearest(self.trials[row]["values"])
        return Trial(number, name, values, 0, design=name, steps=self.steps, attempt=1)

    def point(self, row: int, step: int) -> Point:
        accuracy, size = self.trials[row]["curve"][step - 1]
        return Point(step, accuracy, size or None, step <= self.warmup)

    def outcome(self, row: int) -> Outcome:
        one = self.trials[row]
        return Outcome("finished", one["accuracy"], one["size_bytes"], examples=self.examples)


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


def curves_of(table: Table) -> list[FinishedCurve]:
    """Every row of the table as a finished curve."""
    found = []
    for row in range(len(table.trials)):
        trial = table.trial(row, row)
        trial.points[1] = [table.point(row, step) for step in range(1, table.steps + 1)]
        trial.outcome = table.outcome(row)
        curve = finished_curve(trial, table.objective, table.space)
        assert curve is not None
        found.append(curve)
    return found


def forecasts(
    table: Table, *, order: int, look: float, every: int, part: int = 0, leak: bool = False
) -> list[Judged]:
    """Trials forecast from those before them, in a random order of the table.

    Args:
        table: of finished trials.
        order: seeds the order.
        look: fraction of a trial.
        every: only each so many-th trial is forecast; the ones before it all count.
        part: with which of them to begin.
        leak: fit to the trial itself, too: the mistake that the alarm is for.
    """
    rows = []
    known = curves_of(table)
    share = table.objective.is_share
    sequence = np.random.default_rng(order).permutation(len(known))
    for at in range(12 + part, len(sequence), every):
        past, target = [known[i] for i in sequence[:at]], known[sequence[at]]
        prefix = target.prefix(look)
        assert prefix is not None
        if leak:
            errors, sizes = leaky_quantiles([*past, target], prefix, share=share)
        else:
            fitted = Forecaster.fit(past, fraction=look, share=share)
            assert fitted is not None
            errors, sizes = fitted.predict(prefix).quantiles(LEVELS)
        typical = float(np.median([math.log(one.final_size) for one in past]))
        _, last_log_size = features.last_value(prefix, share=share, typical_log_size=typical)
        metric = table.objective.metric(target.final_error)
        rows.append(
            Judged(
                f"{target.run_id}/{order}",
                look,
                tuple(errors),
                tuple(sizes),
                float(np.mean(np.array(errors) <= table.objective.limit)),
                prefix.steps[-1].error,
                math.exp(last_log_size),
                target.final_error,
                target.final_size,
                table.objective.standard_error(metric, table.examples),
            )
        )
    return rows


def leaky_quantiles(
    known: Sequence[FinishedCurve], prefix: Prefix, *, share: bool
) -> tuple[list[float], list[float]]:
    """The notebook's mistake: trees fitted anew with the very trial that is then "forecast"."""
    from sklearn.ensemble import ExtraTreesRegressor

    prefixes = [one.prefix(prefix.fraction) for one in known]
    rows = [features.row(one, share=share) for one in prefixes if one is not None]
    ends = [[one.final_error, math.log(one.final_size)] for one in known]
    fitted = ExtraTreesRegressor(n_estimators=20, random_state=0).fit(rows, ends)
    error, log_size = fitted.predict([features.row(prefix, share=share)])[0]
    return [float(error)] * len(LEVELS), [math.exp(log_size)] * len(LEVELS)


_TABLES: list[Table] = []
"""Set before the processes are forked, so that tables need not be sent to them."""


def replay_of(method: str, **more: int) -> dict[str, Any]:
    """``replay`` in another process."""
    return replay(_TABLES[0], method, **more)


def forecasts_of(**more: Any) -> list[Judged]:
    """``forecasts`` in another process."""
    return forecasts(_TABLES[0], **more)


def compared(runs: Sequence[Mapping[str, Any]], against: str) -> dict[str, Any]:
    """Ratio of final sizes per method, and epochs to come within a quarter of the best of all."""
    best = min((r["best"] for r in runs if r["best"]), default=None)
    table: dict[str, Any] = {}
    for method in dict.fromkeys(r["method"] for r in runs):
        own = [r for r in runs if r["method"] == method]
        others = {r["seed"]: r for r in runs if r["method"] == against}
        logs = [
            math.log(r["best"] / others[r["seed"]]["best"])
            for r in own
            if r["best"] and r["seed"] in others and others[r["seed"]]["best"]
        ]
        table[method] = {
            "searches": len(own),
            "found_none": sum(r["best"] is None for r in own),
            "size": record.summary([r["best"] for r in own if r["best"]] or [0.0]),
            f"ratio_to_{against}": interval(logs),
            "epochs_to_1.25": record.summary([_epochs_to(r, 1.25 * (best or 0)) for r in own]),
            "trials": record.summary([r["trials"] for r in own]),
            "stopped": sum(r["stopped"] for r in own),
            "wrongly_stopped": sum(r["wrongly_stopped"] for r in own),
        }
    return table


def _epochs_to(run: Mapping[str, Any], size: float) -> int:
    """Epochs until the best is at most ``size``; the whole budget where it never is."""
    reached = [spent for spent, best in run["path"] if best is not None and best <= size]
    return reached[0] if reached else run["path"][-1][0]


def interval(logs: Sequence[float]) -> dict[str, float | int | None]:
    """Geometric mean of paired ratios with its 95 % interval (Student's)."""
    if len(logs) < 2:
        return {"ratio": math.exp(logs[0]) if logs else None, "n": len(logs)}
    from scipy.stats import t

    mean, n = float(np.mean(logs)), len(logs)
    half = float(t.ppf(0.975, n - 1) * np.std(logs, ddof=1) / math.sqrt(n))
    low, high = math.exp(mean - half), math.exp(mean + half)
    return {"ratio": math.exp(mean), "low": low, "high": high, "n": n}


def digits_table(count: int, folder: Path) -> Table:
    """Curves of the digits, made once; the first is the known-safe point, the others fill the space."""
    path = folder / f"digits-{count}.jsonl"
    if not path.exists():
        generator = np.random.default_rng(0)
        points = [
            digits_trials.SAFE,
            *(digits_trials.SPACE.random(generator) for _ in range(count - 1)),
        ]
        made = [digits_trials.run(values, seed=0) for values in points]
        digits_trials.write_table(path, made, {"table": "digits", "trials": count})
    _, trials = digits_trials.read_table(path)
    return Table(
        "digits",
        digits_trials.SPACE,
        Objective(Floor.parse(digits_trials.FLOOR)),
        trials,
        digits_trials.VALIDATION,
        digits_trials.EPOCHS // 4,
    )


def stored_table(path: Path) -> Table:
    """A table that ``search_lenet.py`` has kept."""
    about, trials = digits_trials.read_table(path)
    objective = Objective(Floor.parse(about["floor"]))
    space = Space.from_plain(about["space"])
    return Table(about["table"], space, objective, trials, about["examples"], about["warmup"])


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
