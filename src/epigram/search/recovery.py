"""What a dead driver has left behind is ended; what its trials had come to is not lost."""

from __future__ import annotations

from epigram.runner import Executor, Lease
from epigram.search import folder
from epigram.search.endings import Endings, stopped
from epigram.search.folder import MetricsTail
from epigram.search.following import note_stop, take_points
from epigram.search.history import Trial
from epigram.search.study import Study


def recover(study: Study, executor: Executor, endings: Endings) -> None:
    """End what a dead driver has left behind; its trials are begun again, unless they were stopped."""
    waiting = study.history.open_trials()
    leases = {trial.run_id: Lease(**trial.lease) for trial in waiting if trial.lease is not None}
    for exit_ in executor.recover(leases.values()):
        trial = study.history.trials.get(exit_.run_id)
        if trial is not None and trial.outcome is None:
            endings.record(exit_)
    for trial in waiting:
        if trial.attempt:
            _take_up(study, trial, endings)


def _take_up(study: Study, trial: Trial, endings: Endings) -> None:
    """A trial may have come to its result, or to where it was to stop, before the driver died."""
    where = folder.attempt_folder(study.run_folder(trial), trial.attempt)
    tail = MetricsTail(where / folder.METRICS, study.objective)
    note_stop(study, trial, take_points(study, trial, tail))
    written = folder.read_result(where, trial.run_id, trial.attempt, study.objective)
    told = stopped(trial, study.objective)
    if written.kind != "failed":
        endings.tell(trial, written)
    elif told is not None:
        endings.tell(trial, told)
