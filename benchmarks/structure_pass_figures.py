"""What ``structure_pass.py`` reports of its runs: pure functions of what the runs wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cells import spreads
from lenet_figures import alike

SHRINKING, WITHOUT = "shrinking", "not-shrinking"
ERRORS = ("validation_error_percent", "test_error_percent")
RATIOS = ("ratio_whole", "ratio_cpu", "ratio_to_the_end", "ratio_cpu_to_the_end")
FIGURES = (
    *ERRORS,
    *RATIOS,
    "ratio_steps",
    "last_over_first_epoch",
    "structure_seconds",
    "parameters",
    "macs",
)


def times(lines: Sequence[Mapping[str, Any]], cpu: Mapping[str, float]) -> dict[str, Any]:
    """Times and ratios.

    Args:
        lines: of ``metrics.jsonl``; their seconds are by the clock on the wall. None tells of the cut, so the
            processor's count for it.
        cpu: processor seconds of the stages ``plain``, ``structure``, ``cut`` and ``finetune``; what depends on one that
            is not there is None.

    Raises:
        ValueError: plain network or structure pass have no epoch.
    """
    stages = ("plain", "structure", "finetune")
    of = {name: [line for line in lines if line["stage"] == name] for name in stages}
    epochs = {name: len(of[name]) for name in stages}
    if not epochs["plain"] or not epochs["structure"]:
        raise ValueError(
            f"structure_pass: got {epochs['plain']} plain and {epochs['structure']} structure epochs, "
            "expected some of both"
        )
    seconds = {name: sum(line["seconds"] for line in of[name]) for name in stages}
    step = {
        name: sum(line["step_ms"] for line in of[name]) / max(1, epochs[name]) for name in stages
    }
    as_many = seconds["plain"] / epochs["plain"] * epochs["structure"]
    steps = [line["step_ms"] for line in of["structure"]]
    return {
        "epochs": epochs,
        "structure_seconds": round(seconds["structure"], 3),
        "finetune_seconds": round(seconds["finetune"], 3),
        "plain_seconds_for_as_many_epochs": round(as_many, 3),
        "ratio_whole": round(seconds["structure"] / as_many, 4),
        "ratio_to_the_end": over_plain({"cut": cpu.get("cut", 0.0), **seconds}, epochs),
        "cpu_seconds": dict(cpu),
        "ratio_cpu": over_plain(cpu, epochs, ("structure",)),
        "ratio_cpu_to_the_end": over_plain(cpu, epochs),
        "structure_step_ms": round(step["structure"], 4),
        "plain_step_ms": round(step["plain"], 4),
        "ratio_steps": round(step["structure"] / step["plain"], 4),
        "last_over_first_epoch": round(steps[-1] / steps[0], 4),
        "step_ms_per_epoch": steps,
        "effective_parameters": [line.get("effective_parameters") for line in of["structure"]],
    }


def over_plain(
    seconds: Mapping[str, float],
    epochs: Mapping[str, int],
    parts: Sequence[str] = ("structure", "cut", "finetune"),
) -> float | None:
    """Seconds of some parts over the plain network's for as many epochs; None where a part's are unknown."""
    if any(part not in seconds for part in ("plain", *parts)):
        return None
    as_many = sum(epochs.get(part, 0) for part in parts)
    plain = seconds["plain"] / epochs["plain"] * as_many
    return round(sum(seconds[part] for part in parts) / plain, 4)


def summarised(cells: Mapping[str, Any]) -> dict[str, Any]:
    """The spread over the seeds; with shrinking against without, and against plain training."""
    spread = spreads(cells, FIGURES, name=lambda key: key.partition("/seed-")[0])
    compared = {}
    for group, ours in spread.items():
        name, _, contestant = group.rpartition("/")
        variances = contestant.removeprefix(f"{SHRINKING}-")
        theirs = spread.get(f"{name}/{WITHOUT}-{variances}")
        if contestant.startswith(SHRINKING) and theirs is not None:
            compared[group] = {
                "costs_no_more_than_plain": {
                    key: ours[key]["median"] <= 1.0 for key in RATIOS if ours[key] is not None
                },
                "same_error_as_without": {
                    key: alike(ours[key], theirs[key])
                    for key in ERRORS
                    if ours[key] is not None and theirs[key] is not None
                },
            }
    return {"spread": spread, "compared": compared}


def table(spread: Mapping[str, Any]) -> str:
    """A line per recipe and contestant."""
    head = f"{'':<44}{'validation error %':>22}{'structure pass':>22}{'processor':>22}"
    lines = [f"{head}{'to the end':>22}{'processor':>22}"]
    for group, found in spread.items():
        cells = "".join(f"{_range(found[key], '×'):>22}" for key in RATIOS)
        lines.append(f"{group:<44}{_range(found[ERRORS[0]]):>22}{cells}")
    return "\n".join(lines)


def _range(spread: Mapping[str, float] | None, unit: str = "") -> str:
    if spread is None:
        return "–"
    return f"{spread['median']:.2f}{unit} ({spread['min']:.2f}–{spread['max']:.2f})"
