"""What ``lenets.py`` reports of its runs: pure functions of what the runs wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from record import median_by_bytes, summary

from epigram.train import read_metrics

LINEAR, CONVOLUTION = "lenet-300-100/mnist", "lenet-300-100-conv/mnist"
SUMMARISED = (
    "file_bytes",
    "ratio",
    "test_error_percent",
    "dense_test_error_percent",
    "paper_architecture",
    "paper_with_uncertainty",
    "paper_test_error_percent",
    "epochs",
    "seconds",
)
COMPARED = (
    "paper_architecture",
    "paper_with_uncertainty",
    "file_bytes",
    "test_error_percent",
)


def of_run(
    folder: Path, result: Mapping[str, Any], sessions: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The figures of one finished run.

    Args:
        folder: of the run.
        result: its ``result.json``.
        sessions: what its processes noted: commit, date, seconds from start to end. One that was
            killed has no seconds, and of a run in several sessions the whole time is not told.
    """
    counts = result["paper_counts"]
    last = sessions[-1] if sessions else {}
    return {
        "seed": result["seed"],
        "identity": result["identity"],
        "commit": last.get("commit"),
        "dirty": last.get("dirty"),
        "date": last.get("date"),
        "file_bytes": result["file_bytes"],
        "predicted_bytes": result["predicted_bytes"],
        "dense_bytes": result["dense_bytes"],
        "ratio": result["ratio"],
        "breakdown": result["breakdown"],
        "test_error_percent": result.get("test_error_percent"),
        "dense_test_error_percent": result.get("dense_test_error_percent"),
        "paper_architecture": counts["architecture"],
        "paper_with_uncertainty": counts["with_uncertainty"],
        "paper_test_error_percent": counts.get("test_error_percent"),
        "floor": result["floor"],
        "units": result["units"],
        "parameters": result["parameters"],
        "epochs": len(read_metrics(folder / "metrics.jsonl")),
        "seconds": last.get("seconds") if len(sessions) == 1 else None,
        "seconds_per_stage": result["seconds"],
        "threads": result["environment"]["threads"],
    }


def of_recipe(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A recipe's runs, the one whose file has the median size, and the spread of every figure."""
    spread = {}
    for key in SUMMARISED:
        values = [run[key] for run in runs if run[key] is not None]
        spread[key] = summary(values) if values else None
    return {
        "median": dict(median_by_bytes(runs)),
        "floors_met": sum(bool(run["floor"]["met"]) for run in runs),
        "spread": spread,
        "runs": list(runs),
    }


def linear_against_convolution(known: Mapping[str, Any]) -> dict[str, Any] | None:
    """The same network as linear layers and as 1x1 convolutions, figure by figure.

    ``within_spread`` says that the two ranges over the seeds overlap, or that the medians differ by no
    more than the wider of the two ranges. None until both have been run.
    """
    if LINEAR not in known or CONVOLUTION not in known:
        return None
    compared = {}
    for key in COMPARED:
        linear, convolution = (known[name]["spread"][key] for name in (LINEAR, CONVOLUTION))
        if linear is None or convolution is None:
            continue
        compared[key] = {
            "linear": linear,
            "convolution": convolution,
            "within_spread": alike(linear, convolution),
        }
    return compared


def alike(a: Mapping[str, float], b: Mapping[str, float]) -> bool:
    """Do two spreads overlap, or differ in their medians by no more than the wider of the two ranges?"""
    overlap = a["min"] <= b["max"] and b["min"] <= a["max"]
    wider = max(a["max"] - a["min"], b["max"] - b["min"])
    return overlap or abs(a["median"] - b["median"]) <= wider


def read_off(result: Mapping[str, Any]) -> dict[str, float | None]:
    """All that a run reads off the test set: the dense, the decoded and the paper's network."""
    return {
        "dense_test_error_percent": result.get("dense_test_error_percent"),
        "test_error_percent": result.get("test_error_percent"),
        "paper_test_error_percent": result["paper_counts"].get("test_error_percent"),
    }


def table(known: Mapping[str, Any]) -> str:
    """The median runs, one a line, least and largest of the seeds behind them."""
    head = (
        f"{'recipe (median by bytes)':<26}{'file, bytes':>24}{'ratio':>8}{'error %':>9}"
        f"{'dense %':>9}{'architecture':>14}{'uncertainty':>13}{'at error %':>12}{'floor':>7}"
        f"{'epochs':>8}{'seconds':>9}  units left"
    )
    lines = [head]
    for name, figures in known.items():
        run, size = figures["median"], figures["spread"]["file_bytes"]
        bytes_ = f"{size['median']:g} ({size['min']:g}–{size['max']:g})"
        seconds = run["seconds"] or sum(run["seconds_per_stage"].values())
        units = "-".join(str(unit["after"]) for unit in run["units"].values())
        lines.append(
            f"{name:<26}{bytes_:>24}{run['ratio']:>8.1f}{_percent(run['test_error_percent']):>9}"
            f"{_percent(run['dense_test_error_percent']):>9}{run['paper_architecture']:>14.1f}"
            f"{run['paper_with_uncertainty']:>13.1f}"
            f"{_percent(run['paper_test_error_percent']):>12}"
            f"{figures['floors_met']:>5}/{len(figures['runs'])}{run['epochs']:>8}{seconds:>9.0f}"
            f"  {units}"
        )
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
