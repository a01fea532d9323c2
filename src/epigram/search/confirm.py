"""The winner of a search is the luckiest, too: what is returned is confirmed, or nothing is.

The best designs are trained anew on seeds that nobody has chosen. Each of these runs makes a file; files
that meet the floor on validation are put to the test on a split that no trial has seen, the smallest
first, until one passes. A file passes if the one-sided 95 % bound of its error is within the limit, where
the 5 % are shared by all files that are put to the test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final

from epigram.search.history import Trial
from epigram.search.objective import Objective

if TYPE_CHECKING:
    from epigram.search.study import Study

ALPHA: Final = 0.05


@dataclass(frozen=True)
class Bound:
    """The worst error that is still plausible, from a split that no trial has seen.

    Attributes:
        error: as measured there.
        upper: its one-sided upper bound; infinity where nothing is known of the noise.
        alpha: how often the bound is too low.
    """

    error: float
    upper: float
    alpha: float


def next_trial(study: Study, *, searched: bool) -> Trial | None:
    """The next trial that confirms; None if all were asked for, or the search is going on.

    Args:
        study: whose best designs are trained anew.
        searched: all trials of the search are told.
    """
    settings = study.settings
    if not searched or study.history.verdict_holds:
        return None
    for design in designs(study):
        for index in range(settings.confirm_seeds):
            known = len(study.history)
            trial = study.repeat(design, index)
            if len(study.history) > known:
                return trial
    return None


def designs(study: Study) -> list[Trial]:
    """The best designs of a search, one trial each, the smallest first."""
    first: dict[str, Trial] = {}
    for trial in study.feasible():
        first.setdefault(trial.design, trial)
    return list(first.values())[: study.settings.confirm]


def conclude(study: Study) -> Mapping[str, Any] | None:
    """Put the files to the test and write down which is confirmed; None where nothing was asked for.

    Once more trials of the search have been told, the verdict is made anew.
    """
    earlier = study.history.confirmed
    if study.settings.confirm == 0 or study.history.verdict_holds:
        return earlier
    verdict = judge(
        [t for t in study.history if t.phase == "confirm"], study.objective, study.nearest()
    )
    study.record("confirmed", better(earlier, verdict))
    return study.history.confirmed


def better(earlier: Mapping[str, Any] | None, verdict: Mapping[str, Any]) -> Mapping[str, Any]:
    """A later verdict, unless it takes back a file that was confirmed, or puts a larger one in its place."""
    before = None if earlier is None else _confirmed_size(earlier)
    now = _confirmed_size(verdict)
    if earlier is not None and before is not None and (now is None or now > before):
        return earlier
    return verdict


def _confirmed_size(verdict: Mapping[str, Any]) -> float | None:
    return next((float(one["size"]) for one in verdict["tested"] if one["passed"]), None)


def judge(trials: list[Trial], objective: Objective, nearest: Trial | None) -> dict[str, Any]:
    """Which file is confirmed, and why no other.

    Returns:
        ``run_id`` (None = none is), ``sentence``, and what each file that was tested reached.
    """
    if not trials:
        return {"run_id": None, "tested": [], "sentence": _no_design(objective, nearest)}
    candidates = sorted(
        (t for t in trials if _worth_testing(t, objective)), key=lambda t: (_size(t), t.number)
    )
    tested: list[dict[str, Any]] = []
    for trial in candidates:
        bound = bound_of(trial, objective, alpha=ALPHA / len(candidates))
        passed = bound is not None and bound.upper <= objective.limit
        tested.append(_told(trial, bound, passed=passed))
        if passed:
            return {
                "run_id": trial.run_id,
                "tested": tested,
                "sentence": f"confirmed: {_size(trial):g} {objective.size_key}, "
                f"{_in_words(bound, objective)}",
            }
    return {"run_id": None, "tested": tested, "sentence": _nothing(trials, tested, objective)}


def bound_of(trial: Trial, objective: Objective, *, alpha: float) -> Bound | None:
    """The bound of a file's error on the separate split; None if the trial says nothing of that split.

    Clopper and Pearson's for a share of examples; else the normal one from a standard error ``se``.
    """
    found = None if trial.outcome is None else trial.outcome.confirmation
    metric = None if found is None else found.get(objective.floor.metric)
    if found is None or not isinstance(metric, int | float) or not math.isfinite(metric):
        return None
    error = objective.error(float(metric))
    examples, se = found.get("examples"), found.get("se")
    if objective.is_share and type(examples) is int and examples > 0:
        wrong = round(min(1.0, max(0.0, error)) * examples)
        return Bound(error, upper_share(wrong, examples, alpha=alpha), alpha)
    if isinstance(se, int | float) and math.isfinite(se) and se >= 0:
        return Bound(error, error + NormalDist().inv_cdf(1.0 - alpha) * se, alpha)
    return Bound(error, math.inf, alpha)


def upper_share(hits: int, n: int, *, alpha: float) -> float:
    """The exact one-sided upper bound of a share (Clopper, Pearson 1934).

    Example:
        >>> round(upper_share(0, 100, alpha=0.05), 4)  # the rule of three
        0.0295
    """
    from scipy.stats import beta  # noqa: PLC0415 - heavy

    return 1.0 if hits >= n else float(beta.ppf(1.0 - alpha, hits + 1, n - hits))


def _worth_testing(trial: Trial, objective: Objective) -> bool:
    outcome = trial.outcome
    if outcome is None or not trial.finished or outcome.metric is None:
        return False
    return outcome.confirmation is not None and objective.feasible(outcome.metric, margin=0.0)


def _told(trial: Trial, bound: Bound | None, *, passed: bool) -> dict[str, Any]:
    assert trial.outcome is not None
    figures: dict[str, Any] = {
        "run_id": trial.run_id,
        "design": trial.design,
        "seed": trial.seed,
        "size": _size(trial),
        "search_metric": trial.outcome.metric,
        "file": trial.outcome.file,
        "passed": passed,
    }
    if bound is not None:
        upper = bound.upper if math.isfinite(bound.upper) else None
        figures |= {"error": bound.error, "upper": upper, "alpha": bound.alpha}
    return figures


def _nothing(trials: list[Trial], tested: list[dict[str, Any]], objective: Objective) -> str:
    if tested:
        nearest = min(tested, key=lambda t: math.inf if t.get("upper") is None else t["upper"])
        upper = nearest.get("upper")
        reached = (
            "the trials tell neither examples nor a standard error of it"
            if upper is None
            else f"the nearest has {objective.floor.metric} {objective.metric(nearest['error']):.5g}, "
            f"for certain only {objective.metric(upper):.5g}"
        )
        return (
            f"nothing is confirmed: none of {len(tested)} files holds {objective.floor} on the "
            f"confirmation split with 95 % certainty; {reached}"
        )
    if not any(t.finished and t.outcome and t.outcome.confirmation for t in trials):
        return (
            "nothing is confirmed: the trials that were to confirm wrote no 'confirmation' "
            f"({objective.floor.metric} and examples of a separate split) into result.json"
        )
    return (
        f"nothing is confirmed: with new seeds none of {len(trials)} runs meets {objective.floor} "
        "even on validation"
    )


def _no_design(objective: Objective, nearest: Trial | None) -> str:
    start = f"no feasible design: no trial meets {objective.floor} with the margin asked for"
    if nearest is None or nearest.outcome is None:
        return f"{start}, and none has finished"
    return (
        f"{start}; the nearest is trial {nearest.number} ({nearest.run_id}) with "
        f"{objective.floor.metric} {nearest.outcome.metric:.5g} at {_size(nearest):g} "
        f"{objective.size_key}"
    )


def _in_words(bound: Bound | None, objective: Objective) -> str:
    assert bound is not None
    return (
        f"{objective.floor.metric} {objective.metric(bound.error):.5g} on the confirmation split, "
        f"with 95 % certainty beyond {objective.metric(bound.upper):.5g} (floor {objective.floor})"
    )


def _size(trial: Trial) -> float:
    assert trial.outcome is not None
    return trial.outcome.size if trial.outcome.size is not None else math.inf
