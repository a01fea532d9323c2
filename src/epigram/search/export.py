"""A study for optuna-dashboard: derived from the ledger, never read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from epigram.errors import ConfigError
from epigram.search import report
from epigram.search.history import Trial
from epigram.search.objective import Objective, log_size
from epigram.search.samplers import CONSTRAINT, distributions, optuna_module, silent, to_params
from epigram.search.space import Space


def to_optuna(folder: str | Path, storage: str | None = None, *, name: str | None = None) -> str:
    """Write a study into an Optuna storage; returns its address.

    Finished trials are COMPLETE with log size and the constraint; stopped ones PRUNED, with the sizes
    seen on the way; diverged and failed ones FAIL; those under way RUNNING. What was imputed is
    nowhere: nobody shall take a guess for a result.

    Args:
        folder: the study's.
        storage: an address Optuna knows; None = SQLite in ``export/optuna.db``, written anew.
        name: of the study there; None = the folder's.

    Raises:
        ConfigError: Optuna is missing, or the storage holds a study of that name.
    """
    where = Path(folder)
    about, seen, space = report.read(where)
    optuna = optuna_module()
    if storage is None:
        file = where / "export" / "optuna.db"
        file.parent.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)
        storage = f"sqlite:///{file}"
    with silent(optuna):
        try:
            study = optuna.create_study(storage=storage, study_name=name or where.resolve().name)
        except optuna.exceptions.DuplicatedStudyError as error:
            raise ConfigError(f"export: {storage}: {error}; expected a new name") from error
        study.set_user_attr("floor", about["floor"])
        for trial in seen.history:
            study.add_trial(_frozen(optuna, trial, seen.objective, space))
    return storage


def _frozen(optuna: Any, trial: Trial, objective: Objective, space: Space) -> Any:
    states = optuna.trial.TrialState
    outcome = trial.outcome
    attributes: dict[str, Any] = {
        "run_id": trial.run_id,
        "phase": trial.phase,
        "seed": trial.seed,
        "sampler": trial.sampler,
    }
    more: dict[str, Any] = {}
    state = states.RUNNING
    if outcome is not None:
        attributes |= {"outcome": outcome.kind, "note": outcome.note}
        state = {"finished": states.COMPLETE, "stopped": states.PRUNED}.get(
            outcome.kind, states.FAIL
        )
    if trial.finished and outcome is not None:
        assert outcome.metric is not None
        assert outcome.size is not None
        violation = objective.violation(outcome.metric, examples=outcome.examples)
        more = {"value": log_size(outcome.size), "constraints": {CONSTRAINT: violation}}
        attributes |= {objective.floor.metric: outcome.metric, objective.size_key: outcome.size}
    return optuna.trial.create_trial(
        state=state,
        params=to_params(space, space.nearest(trial.values)),
        distributions=distributions(space),
        intermediate_values={
            point.step: log_size(point.size) for point in trial.curve() if point.size
        },
        user_attrs=attributes,
        **more,
    )
