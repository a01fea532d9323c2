"""Tables of searches: what they confirmed, what replays say of methods and forecasts, what kills leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from table_parts import Result, grouped, markdown, missing

NAMES = {
    "gp": "Gaussian process",
    "tpe": "TPE, penalty",
    "random": "random",
    "hyperband": "Hyperband on the error",
    "tpe+forecast": "TPE, stopping by forecast",
    "gp+forecast": "Gaussian process, stopping by forecast",
}


def searches(result: Result) -> list[str]:
    """A row per seed, bytes of the confirmed files; then the ratios."""
    cells = result["cells"]
    there = {key.partition("/")[0] for key in cells}
    methods = [method for method in NAMES if method in there]
    seeds = sorted({key.partition("/")[2] for key in cells}, key=int)
    rows = []
    for seed in seeds:
        own = {m: cells[f"{m}/{seed}"] for m in methods if f"{m}/{seed}" in cells}
        floor = next(iter(own.values()))["floor"]
        rows.append((seed, f"`{floor}`", *(_confirmed(own.get(m)) for m in methods)))
    head = ("seed", "floor", *(f"{NAMES[m]}, bytes (trials)" for m in methods))
    ratios = [
        f"Confirmed bytes, Gaussian process over {NAMES[name.removeprefix('gp_to_')]}: {_ratio(ratio)}."
        for name, ratio in result["ratios"].items()
    ]
    slowest = max(cell["trial_seconds"]["max"] for cell in cells.values())
    return [
        *markdown(head, rows),
        "",
        *ratios,
        f"The slowest trial took {slowest:.0f} s.",
        *missing(result),
    ]


def replays(result: Result) -> list[str]:
    """A row per method."""
    against = next(key for key in next(iter(result["methods"].values())) if key.startswith("ratio"))
    head = (
        f"method, as many epochs as {result['trials_per_search']} whole trials take",
        "searches",
        "median bytes (range)",
        f"{against.replace('_', ' ')} (95 %)",
        "epochs to within a quarter of the best, median",
        "trials begun, median",
        "stopped, of which wrongly",
    )
    rows = [
        (
            NAMES.get(name, name),
            found["searches"],
            f"{found['size']['median']:.0f} ({found['size']['min']:.0f}–{found['size']['max']:.0f})",
            _ratio(found[against]),
            f"{found['epochs_to_1.25']['median']:.0f}",
            f"{found['trials']['median']:.0f}",
            f"{found['stopped']}, {found['wrongly_stopped']}",
        )
        for name, found in result["methods"].items()
    ]
    return markdown(head, rows)


def forecasts(result: Result) -> list[str]:
    """A row per look: honest forecasts, then leaky ones."""
    head = (
        "seen",
        "trials",
        "correlation (last value)",
        "mean error (last value)",
        "mean error of log size (last)",
        "inside 90 %",
        "Brier (base rate)",
    )
    rows = [_look(report) for report in result["forecasts"]]
    rows += [
        (f"{report['look']:.0%}, *fitted on the target too*", *_look(report)[1:])
        for report in result["leak"]["forecasts"]
    ]
    honest, leaky = len(result["alarms"]), len(result["leak"]["alarms"])
    return [*markdown(head, rows), "", f"Alarms: {honest}; for the leaky ones {leaky}."]


def kills(result: Result) -> list[str]:
    """One line."""
    every, loaders = result["all"], result["with_torch"]
    to_zero, free = every["seconds_to_zero"], result["slot_free_seconds"]
    head = (
        "drivers killed (with data loaders)",
        "processes before",
        "left",
        "seconds to zero, p50 / p99 / most",
        "slot free, s, p50 / p99 / most",
    )
    row = (
        f"{grouped(every['kills'])} ({loaders['kills']})",
        grouped(every["processes_before"]),
        every["processes_left"],
        f"{to_zero['p50']:.3f} / {to_zero['p99']:.3f} / {to_zero['max']:.3f}",
        f"{free['p50']:.3f} / {free['p99']:.3f} / {free['max']:.3f}",
    )
    return markdown(head, [row])


def ledger(result: Result) -> list[str]:
    """One line."""
    head = (
        "events acknowledged",
        "kills",
        "lost",
        "resumed studies with the same proposals",
        "driver, ms a trial",
        "with a curve of 20 points and forecasts",
    )
    same = ", ".join(
        f"{NAMES[name]} {found['identical']} of {found['resumed']}"
        for name, found in result["proposals"].items()
    )
    row = (
        grouped(result["acknowledged"]),
        result["kills"],
        result["lost"],
        same,
        f"{result['driver']['wall_ms']:.1f}",
        f"{result['driver_with_forecasts']['wall_ms']:.1f}",
    )
    return markdown(head, [row])


def _confirmed(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "–"
    size = cell["confirmed_bytes"]
    found = "none" if size is None else f"**{grouped(int(size))}**"
    return f"{found} ({cell['trials']})"


def _ratio(found: Mapping[str, Any]) -> str:
    if found["ratio"] is None:
        return "–"
    if "low" not in found:
        return f"{found['ratio']:.2f} (n {found['n']})"
    return f"{found['ratio']:.2f} ({found['low']:.2f}–{found['high']:.2f}, n {found['n']})"


def _look(report: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        f"{report['look']:.0%}",
        report["n"],
        f"{_or_dash(report['correlation'])} ({_or_dash(report['correlation_last'])})",
        f"{report['mae']:.4f} ({report['mae_last']:.4f})",
        f"{report['mae_log_size']:.3f} ({report['mae_last_log_size']:.3f})",
        f"{report['coverage']['0.9'][0]:.2f}",
        f"{report['brier']:.3f} ({report['brier_base']:.3f})",
    )


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
