"""The page of a search: one HTML file, from the ledger alone."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epigram import atomic
from epigram.errors import ConfigError, EpigramError
from epigram.records import Floor
from epigram.report import page
from epigram.report.run_page import show
from epigram.report.words import NOTHING, counted, grouped, share
from epigram.search import (
    forecast_plates,
    ledger,
    plates,
    report_tables,
    slot_plates,
    verdict,
    watching,
)
from epigram.search.calibration import LookReport, calibration, judged
from epigram.search.history import History
from epigram.search.objective import Objective
from epigram.search.plates import Seen
from epigram.search.samplers import importances
from epigram.search.space import Space
from epigram.search.study_folder import STUDY


def read(folder: Path) -> tuple[dict[str, Any], Seen, Space]:
    """What the folder of a study says, going on or not.

    Raises:
        ConfigError: it is no study's folder.
        LedgerError: the ledger is damaged.
    """
    try:
        about = json.loads((folder / STUDY).read_text("utf-8"))
        settings = about["settings"]
        objective = Objective(Floor.parse(about["floor"]), settings["size_key"], settings["margin"])
        return (
            about,
            Seen(History(ledger.read(folder)), objective),
            Space.from_plain(about["space"]),
        )
    except EpigramError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder}: not a study's folder: {error}") from error


def build(folder: str | Path) -> Path:
    """Write ``report/index.html`` of a study, and its pictures beside it; returns the page's path."""
    where = Path(folder)
    about, seen, space = read(where)
    out = where / "report"
    rows = judged(seen.history, seen.objective, audit_share=_audit_share(about))
    reports = calibration(rows, seen.objective)
    found = _facts(about, seen, reports)
    shown = [
        plates.pareto(seen),
        plates.path(seen),
        forecast_plates.predicted(rows, scale=seen.scale),
        forecast_plates.calibrated(reports),
        slot_plates.slots(seen),
        slot_plates.importances(_importances(seen, space)),
    ]
    pictures = list(show(shown, out, kind="middle"))
    body = "".join(
        [
            page.tiles(_tiles(found)),
            page.section(
                "What was reached", str(found["sentence"]), pictures[:2] + _alarms(seen), grid=False
            ),
            page.section(
                "Confirmation", _confirm_lead(seen), report_tables.tested(seen), grid=False
            ),
            page.section(
                "Forecasts",
                _forecast_lead(reports),
                [*pictures[2:4], *report_tables.looks(reports)],
                grid=False,
            ),
            page.section(
                "Where and when",
                _contained(seen),
                [pictures[4], *report_tables.attempts(seen)],
                grid=False,
            ),
            page.section(
                "Settings",
                "What was varied.",
                [pictures[5], report_tables.varied(space)],
                grid=False,
            ),
            page.section("Trials", "All of them.", [report_tables.trials(seen)], grid=False),
        ]
    )
    html = page.whole_page(
        title="Search · epigram",
        eyebrow="epigram search",
        headline=f"{about['task'].get('recipe', where.name)}: {seen.objective.floor}",
        body=body,
        foot="Written by epigram, from the study's ledger alone.",
    )
    atomic.write_bytes(out / "index.html", html.encode("utf-8"))
    return out / "index.html"


def facts(folder: str | Path) -> dict[str, Any]:
    """The page's figures as plain data."""
    about, seen, _ = read(Path(folder))
    rows = judged(seen.history, seen.objective, audit_share=_audit_share(about))
    return _facts(about, seen, calibration(rows, seen.objective))


def _facts(about: Mapping[str, Any], seen: Seen, reports: list[LookReport]) -> dict[str, Any]:
    history, objective = seen.history, seen.objective
    kinds = [t.outcome.kind for t in history.search() if t.outcome is not None]
    best = next(iter(watching.feasible(history, objective)), None)
    nearest = watching.nearest(history, objective)
    near = None if nearest is None else _described(nearest, seen)
    return {
        "floor": str(objective.floor),
        "seed": about["settings"]["seed"],
        "trials": len(kinds),
        "outcomes": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        "best": None if best is None else _described(best, seen),
        "nearest": near,
        "confirmed": history.confirmed,
        "sentence": _sentence(seen, best is not None, near),
        "forecasts": [report.plain() for report in reports],
        "alarms": list(history.alarms),
        "containment": history.containment,
    }


def _described(trial: Any, seen: Seen) -> dict[str, Any]:
    return {
        "run_id": trial.run_id,
        "number": trial.number,
        "values": dict(trial.values),
        "metric": trial.outcome.metric,
        "size": trial.outcome.size,
        "error": seen.error(trial) / seen.scale,
    }


def _sentence(seen: Seen, feasible: bool, nearest: Mapping[str, Any] | None) -> str:
    confirmed = seen.history.confirmed
    if confirmed is not None:
        return str(confirmed["sentence"])
    if feasible:
        return "nothing is confirmed yet: figures of a search are those of the luckiest trials"
    start = "no feasible design so far: no trial meets the floor with the margin asked for"
    if nearest is None:
        return start
    metric = f"{seen.objective.floor.metric} {nearest['metric']:.5g}"
    return (
        f"{start}; the nearest is trial {nearest['number']} ({nearest['run_id']}) with {metric} at "
        f"{nearest['size']:g} {seen.objective.size_key}"
    )


def _tiles(found: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    confirmed, best = found["confirmed"], found["best"]
    stands = (confirmed or {}).get("run_id")
    passed = [one for one in (confirmed or {}).get("tested", ()) if one["run_id"] == stands]
    first = (
        ("confirmed", grouped(passed[0]["size"]), "bytes on disk", "good")
        if passed
        else ("confirmed", NOTHING, "nothing holds the floor for certain", "bad")
    )
    return [
        first,
        (
            "best of the search",
            NOTHING if best is None else grouped(best["size"]),
            "an estimate of the luckiest",
            "",
        ),
        ("floor", *_floor_tile(Floor.parse(found["floor"])), ""),
        ("trials", str(found["trials"]), _kinds(found["outcomes"]), ""),
    ]


def _floor_tile(floor: Floor) -> tuple[str, str]:
    return f"{'≥' if floor.larger_is_better else '≤'}\u202f{floor.value:g}", floor.metric


def _kinds(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in outcomes.items())


def _alarms(seen: Seen) -> list[str]:
    return [page.absent("Alarm", str(alarm["sentence"])) for alarm in seen.history.alarms]


def _confirm_lead(seen: Seen) -> str:
    confirmed = seen.history.confirmed
    if confirmed is None:
        return "Nothing was put to the test."
    files, made = counted(len(confirmed["tested"]), "file"), verdict.number_of(confirmed)
    if not confirmed["tested"]:
        return "Nothing was put to the test."
    if not made:
        return (
            f"{files} put to the test on a split that no trial has seen, by an earlier version: the bounds "
            "are one-sided and hold for all files of one verdict together with 95 %."
        )
    return (
        f"{files} put to the test on a split that no trial has seen, in {counted(made, 'verdict')}. The bounds "
        f"are one-sided and hold for all of them together with {share(1 - confirmed['spent'])}: each verdict may "
        f"err in four fifths of what is left of 5 %, the last in {share(confirmed['alpha'])}, its files in equal parts."
    )


def _contained(seen: Seen) -> str:
    how = seen.history.containment
    return "Attempts on slots." + (f" Processes were kept together by: {how}." if how else "")


def _forecast_lead(reports: list[LookReport]) -> str:
    if not reports:
        return "There were none that could be judged."
    first = reports[0]
    return (
        f"At {first.look:.0%} of a trial the mean error of the forecast is {first.mae:.3g}, that of the "
        f"last value seen {first.mae_last:.3g} ({counted(first.n, 'trial')})."
    )


def _importances(seen: Seen, space: Space) -> Mapping[str, Mapping[str, float]]:
    with contextlib.suppress(ConfigError):  # without Optuna the page does without
        return importances(seen.finished, seen.objective, space)
    return {}


def _audit_share(about: Mapping[str, Any]) -> float:
    settings = about["settings"]
    share: float = settings["rule"]["audit_share"] if settings["stopping"] == "forecast" else 0.0
    return share
