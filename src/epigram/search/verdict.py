"""Which file is confirmed: files are put to the test, the smallest first, until one passes.

A file passes if the one-sided bound of its error on the separate split is within the limit. All verdicts of a
study together err in 5 % of all studies at most: the k-th uses 4 % / 5^(k−1), shared equally by the files that are new
to it. A file that misses the floor passes with a chance of its share at most, and which files are new is settled before
any of them is looked at on that split; so the k-th verdict confirms one that does with a chance of 4 % / 5^(k−1) at most, and
all of them, by the union bound, of (1 + 1/5 + 1/25 + …) · 4 % = 5 %, however many are asked for.
Most studies have one verdict; the next ones are on designs with more to spare, which can afford a stricter bound.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from epigram.search.bounds import Bound, bound_of
from epigram.search.history import Trial
from epigram.search.objective import Objective

ALPHA: Final = 0.05

_SPENT: Final = (
    "the 5 % by which verdicts may err are spent: another study is needed for another one"
)


def alpha_of(number: int) -> float:
    """What the verdict of that number (1, 2, …) may use.

    Example:
        >>> alpha_of(1), alpha_of(3)
        (0.04, 0.0016)
    """
    return round(0.8 * ALPHA * 0.2 ** (number - 1), 12)


def number_of(verdict: Mapping[str, Any] | None) -> int:
    """How many verdicts a study has put files to the test in."""
    return 0 if verdict is None else int(verdict.get("verdicts", 0))


def is_spent(verdict: Mapping[str, Any] | None) -> bool:
    """Is nothing left of the 5 %? So it is where an earlier version, which does not count, has used all of it."""
    return verdict is not None and bool(verdict["tested"]) and number_of(verdict) == 0


def renewed(
    earlier: Mapping[str, Any] | None,
    trials: Sequence[Trial],
    objective: Objective,
    nearest: Trial | None,
    *,
    judged: Collection[str] = (),
) -> Mapping[str, Any]:
    """The verdict on a study of which more is known than at the one before.

    Args:
        earlier: that one; None = this is the first.
        trials: all that confirm.
        objective: with the floor.
        nearest: the trial of the search that misses the floor by least.
        judged: run ids of trials that an earlier verdict has had before it; they are not put to the test again.

    Returns:
        What ``judge`` does, with all files that were ever tested; ``verdicts`` counts those in which any was,
        ``alpha`` is what the last of them has used, ``spent`` what all have.
    """
    if earlier is not None and is_spent(earlier):
        said = str(earlier["sentence"])
        return {**earlier, "sentence": said if said.endswith(_SPENT) else f"{said}; {_SPENT}"}
    number = number_of(earlier) + 1
    fresh = [trial for trial in trials if trial.run_id not in judged]
    verdict = judge(fresh, objective, nearest, alpha=alpha_of(number))
    before = [] if earlier is None else list(earlier["tested"])
    if not verdict["tested"]:  # nothing is spent
        return earlier if earlier is not None and before else judge(trials, objective, nearest)
    tested = [*before, *({**one, "verdict": number} for one in verdict["tested"])]
    stands = better(earlier, verdict)
    nothing = stands["run_id"] is None
    return {
        "run_id": stands["run_id"],
        "tested": tested,
        "sentence": _nothing(trials, tested, objective) if nothing else stands["sentence"],
        "verdicts": number,
        "alpha": alpha_of(number),
        "spent": ALPHA - alpha_of(number) / 4,
    }


def better(earlier: Mapping[str, Any] | None, verdict: Mapping[str, Any]) -> Mapping[str, Any]:
    """A later verdict, unless it takes back a file that was confirmed, or puts a larger one in its place."""
    before = None if earlier is None else _confirmed_size(earlier)
    now = _confirmed_size(verdict)
    if earlier is not None and before is not None and (now is None or now > before):
        return earlier
    return verdict


def _confirmed_size(verdict: Mapping[str, Any]) -> float | None:
    return min((float(one["size"]) for one in verdict["tested"] if one["passed"]), default=None)


def judge(
    trials: Sequence[Trial], objective: Objective, nearest: Trial | None, *, alpha: float = ALPHA
) -> dict[str, Any]:
    """Which file is confirmed, and why no other.

    Args:
        trials: those that confirm.
        objective: with the floor.
        nearest: the trial of the search that misses the floor by least.
        alpha: how often a file that misses the floor may be confirmed: shared equally by all files.

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
        bound = bound_of(trial, objective, alpha=alpha / len(candidates))
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


def _nothing(
    trials: Sequence[Trial], tested: Sequence[Mapping[str, Any]], objective: Objective
) -> str:
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
