"""Proposals: the facts of the installed Optuna that would bite, and that ours is not bitten."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers._tpe.sampler import _split_trials

from epigram.errors import ConfigError
from epigram.records import Floor
from epigram.search import Choice, Objective, Outcome, Real, Space, Trial, Whole, choosing, samplers
from epigram.search.proposer import LOST, Observation, RandomProposer, observe, startup
from epigram.search.samplers import CONSTRAINT, GaussianProcess, Parzen, distributions, rebuilt

SPACE = Space({"x": Real(0.0, 1.0), "n": Whole(1, 64, log=True), "c": Choice(("a", None))})
OBJECTIVE = Objective(Floor.parse("accuracy>=0.9"))
STATES = optuna.trial.TrialState


def seen(count: int, *, pending: int = 0, seed: int = 0) -> list[Observation]:
    generator = np.random.default_rng(seed)
    found = []
    for number in range(count + pending):
        values = SPACE.random(generator)
        violation = float(values["x"]) - 0.5
        found.append(
            Observation(
                number,
                values,
                math.log(float(values["n"])),
                violation,
                pending=number >= count,
            )
        )
    return found


def trial(number: int, outcome: Outcome | None, **values: Any) -> Trial:
    full = {"x": 0.5, "n": 8, "c": "a", **values}
    return Trial(number, f"run-{number}", full, 0, outcome=outcome)


@pytest.fixture
def quiet() -> Any:
    with samplers.silent(optuna):
        yield


# --- what Optuna does -------------------------------------------------------------------------


def frozen(state: STATES, **more: Any) -> optuna.trial.FrozenTrial:
    params = samplers.to_params(SPACE, SPACE.at([0.5, 0.5, 0.0]))
    return optuna.trial.create_trial(
        state=state, params=params, distributions=distributions(SPACE), **more
    )


def test_fact_a_finished_trial_without_constraint_counts_as_feasible(quiet: None) -> None:
    study = optuna.create_study()
    study.add_trial(frozen(STATES.COMPLETE, value=1.0, constraints={CONSTRAINT: 5.0}))
    study.add_trial(frozen(STATES.COMPLETE, value=2.0))
    assert study.best_trial.number == 1


def test_fact_a_missing_constraint_stops_the_gaussian_process(quiet: None) -> None:
    study = optuna.create_study(sampler=optuna.samplers.GPSampler(seed=0, n_startup_trials=0))
    study.add_trial(frozen(STATES.COMPLETE, value=1.0, constraints={CONSTRAINT: 5.0}))
    study.add_trial(frozen(STATES.COMPLETE, value=2.0))
    with pytest.raises(ValueError, match="number of constraints must be the same"):
        study.ask(distributions(SPACE))


def test_fact_a_pruned_trial_takes_the_last_reported_value(quiet: None) -> None:
    study = optuna.create_study()
    asked = study.ask()
    asked.report(0.23, 1)  # an error rate …
    assert study.tell(asked, state=STATES.PRUNED).value == 0.23  # … in an objective of bytes


def asked_after(sampler: Any, pruned: int, *, step: int = 1, at: float = 0.3) -> dict[str, Any]:
    """What is proposed after twelve finished trials and some pruned ones, all at one place."""
    study = optuna.create_study(sampler=sampler)
    for one in rebuilt(SPACE, seen(12), sampler, penalty=False).trials:
        study.add_trial(one)
    where = samplers.to_params(SPACE, SPACE.at([at, at, 0.0]))
    for _ in range(pruned):
        study.add_trial(
            optuna.trial.create_trial(
                state=STATES.PRUNED,
                params=where,
                distributions=distributions(SPACE),
                value=0.23,
                constraints={CONSTRAINT: -1.0},
                intermediate_values={step: 0.23},
            )
        )
    return study.ask(distributions(SPACE)).params


def test_fact_pruned_trials_are_invisible_to_the_gaussian_process(quiet: None) -> None:
    make = lambda: optuna.samplers.GPSampler(seed=0, n_startup_trials=0)  # noqa: E731
    assert asked_after(make(), 6) == asked_after(make(), 0)


def test_fact_tpe_ranks_pruned_trials_by_how_far_they_came(quiet: None) -> None:
    """Behind all finished ones, by step and not by value: where few finished, long means good."""

    def split(steps: tuple[int, int]) -> list[int]:
        study = optuna.create_study()
        for step, error in zip(steps, (0.9, 0.1), strict=True):
            study.add_trial(frozen(STATES.PRUNED, value=error, intermediate_values={step: error}))
        below, _ = _split_trials(study, study.trials, 1)
        return [one.number for one in below]

    assert split((5, 1)) == [0]
    assert split((1, 5)) == [1]


def test_fact_infinity_is_taken_and_nan_fails(quiet: None) -> None:
    study = optuna.create_study()
    assert study.tell(study.ask(), math.inf).state == STATES.COMPLETE
    assert study.tell(study.ask(), math.nan, skip_if_finished=False).state == STATES.FAIL


def test_fact_a_constraint_is_set_once_and_nan_is_refused(quiet: None) -> None:
    study = optuna.create_study()
    asked = study.ask()
    asked.set_constraint("floor", 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asked.set_constraint("floor", -1.0)
    assert asked.constraints == {"floor": 1.0} or study.trials[0].constraints == {"floor": 1.0}
    with pytest.raises(ValueError, match=r"(?i)nan"):
        study.ask().set_constraint("floor", math.nan)


def test_fact_running_trials_can_be_added(quiet: None) -> None:
    study = rebuilt(SPACE, seen(3, pending=2), optuna.samplers.RandomSampler(), penalty=False)
    states = [t.state for t in study.trials]
    assert states == [STATES.COMPLETE] * 3 + [STATES.RUNNING] * 2


# --- what ours does ---------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [False, True], ids=["constraint", "penalty"])
def test_a_sampler_never_sees_pruned_missing_or_infinite(penalty: bool) -> None:
    outcomes = [
        Outcome("finished", 0.95, 1000.0),
        Outcome("finished", 1.0, 1e-30),
        Outcome("finished", 0.0, 1e300),
        Outcome("diverged"),
        Outcome("failed", note="it wrote no result.json"),
        Outcome("stopped", 0.5, 2000.0, note="hopeless"),
        Outcome("stopped"),
        None,
    ]
    trials = [trial(at, outcome) for at, outcome in enumerate(outcomes)]
    study = rebuilt(
        SPACE,
        observe(trials, OBJECTIVE, SPACE),
        optuna.samplers.RandomSampler(),
        penalty=penalty,
    )
    done = [t for t in study.trials if t.state == STATES.COMPLETE]
    assert [t.state for t in study.trials] == [STATES.COMPLETE] * 7 + [STATES.RUNNING]
    assert all(math.isfinite(t.value) for t in done)
    if not penalty:
        assert all(math.isfinite(t.constraints[CONSTRAINT]) for t in done)
        assert [t.constraints[CONSTRAINT] <= 0 for t in done] == [True, True] + [False] * 5
        assert study.best_trial.number in (0, 1)


@pytest.mark.parametrize("note", [LOST, f"{LOST}: killed, out of memory?"])
def test_a_trial_that_was_lost_says_nothing_of_its_values(note: str) -> None:
    trials = [trial(0, Outcome("failed", note=note)), trial(1, Outcome("finished", 0.9, 5.0))]
    assert [one.number for one in observe(trials, OBJECTIVE, SPACE)] == [1]


@pytest.mark.parametrize("proposer", [Parzen(), RandomProposer()], ids=["tpe", "random"])
def test_the_same_history_and_seed_give_the_same_values(proposer: Any) -> None:
    known = seen(15, pending=2)
    state = np.random.get_state()[1].tolist()
    first = proposer.propose(SPACE, known, seed=5)
    assert proposer.propose(SPACE, list(reversed(known)), seed=5) == first
    assert SPACE.check(first) == first
    assert proposer.propose(SPACE, known, seed=6) != first
    assert np.random.get_state()[1].tolist() == state


def test_the_gaussian_process_repeats_itself_and_heeds_the_constraint() -> None:
    known = seen(15, pending=1)
    first = GaussianProcess().propose(SPACE, known, seed=5)
    assert GaussianProcess().propose(SPACE, known, seed=5) == first
    assert float(first["x"]) < 0.75  # feasible up to 0.5


def test_optuna_speaks_as_before_afterwards() -> None:
    before = optuna.logging.get_verbosity()
    Parzen().propose(SPACE, seen(3), seed=0)
    assert optuna.logging.get_verbosity() == before


def test_the_start_fills_the_space_and_does_not_depend_on_order() -> None:
    points = [startup(SPACE, index, study_seed=3) for index in range(8)]
    assert points[5] == startup(SPACE, 5, study_seed=3)
    assert len({int(float(p["x"]) * 4) for p in points}) == 4
    assert startup(SPACE, 0, study_seed=4) != points[0]


def test_tpe_takes_over_when_asking_costs_more_than_a_hundredth_of_a_trial() -> None:
    def named(ask_seconds: float, count: int = 12) -> str:
        done = Outcome("finished", 0.9, 5.0, seconds=50.0)
        trials = [trial(at, done) for at in range(count)]
        for one in trials[-4:]:
            one.sampler, one.ask_seconds = "gp", ask_seconds
        return choosing.proposer_for("auto", trials, dimensions=len(SPACE)).name

    assert named(0.4) == "gp"
    assert named(0.6) == "tpe"
    assert named(0.1, count=151) == "tpe"
    assert choosing.proposer_for("auto", [], dimensions=21).name == "tpe"
    assert choosing.proposer_for("gp", [], dimensions=21).name == "gp"
    with pytest.raises(ConfigError, match="expected one of auto, gp, tpe, random"):
        choosing.check_sampler("cma")


def test_a_repeated_proposal_is_moved_to_where_nothing_was_tried() -> None:
    values = SPACE.at([0.5, 0.5, 0.0])
    moved = choosing.perturbed(SPACE, values, seed=1, taken=[values])
    assert moved != values
    assert SPACE.check(moved) == moved
    only = Space({"c": Choice(("a", "b"))})
    assert choosing.perturbed(only, {"c": "a"}, seed=1, taken=[{"c": "a"}]) == {"c": "b"}


def test_importances_name_the_setting_that_matters() -> None:
    generator = np.random.default_rng(0)
    trials = []
    for number in range(40):
        values = SPACE.random(generator)
        outcome = Outcome("finished", 1 - 0.2 * float(values["x"]), 10.0 * float(values["n"]))
        trials.append(Trial(number, f"run-{number}", values, 0, outcome=outcome))
    shares = samplers.importances(trials, OBJECTIVE, SPACE)
    assert max(shares["size"], key=shares["size"].__getitem__) == "n"
    assert max(shares["error"], key=shares["error"].__getitem__) == "x"
    assert samplers.importances(trials[:5], OBJECTIVE, SPACE) == {}
