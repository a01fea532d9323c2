"""Searches against each other: ratios of the sizes they found, paired by seed, with their interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import record


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
