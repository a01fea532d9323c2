"""Trials on a real Ray cluster of two raylets, with one of them killed under a trial."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contracts.executor import ExecutorContract
from tests.runner.hostile import HOSTILE, job, trial_processes, wait_for

from epigram.errors import ExecutorError
from epigram.runner import Exit, Limits, processes
from epigram.runner.cluster import RayExecutor
from epigram.runner.protocol import Executor

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="ray is not installed (extra ray)"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore::FutureWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
    ),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from tests.runner.ray_cluster import two_machines

    with two_machines() as cluster:
        yield cluster


def ray_executor(study: str, **settings: Any) -> RayExecutor:
    return RayExecutor(
        study, per_machine=1, limits=Limits(kill_s=10.0), lost_after_s=240.0, **settings
    )


class TestRayExecutor(ExecutorContract):
    """One executor for all of its tests, and a new one after the test that closes it."""

    patience_s = 240.0

    @pytest.fixture(scope="class")
    def shared(
        self, cluster: Any, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[list[RayExecutor]]:
        made = [ray_executor(str(tmp_path_factory.mktemp("study")))]
        yield made
        for one in made:
            one.close()

    @pytest.fixture
    def executor(self, shared: list[RayExecutor]) -> Executor:  # type: ignore[override]
        if not shared[-1].slots():
            shared.append(ray_executor("another study"))
        return shared[-1]


def of_run(study: str, run_id: str) -> list[int]:
    """Processes of one run's trial."""
    found = trial_processes(study)
    return [pid for pid in found if processes.environment(pid).get("EPIGRAM_RUN") == run_id]


def next_end(executor: RayExecutor) -> Exit:
    for _ in range(240):
        for end in executor.poll(1.0):
            return end
    raise AssertionError("nothing ended")


def test_an_actor_that_is_killed_loses_its_trials_and_no_others(
    cluster: Any, study: str, tmp_path: Path
) -> None:
    """Its machine lives on: the trial ends through the pipe to its supervisor, as if it had not."""
    with ray_executor(study) as executor:
        doomed, spared = executor.slots()
        for name, slot in (("a", doomed), ("b", spared)):
            executor.start(job(tmp_path, HOSTILE, name), slot)
            wait_for((tmp_path / name / "attempt-0001/ready").exists, "ready", 120.0)
        os.kill(executor._machines.nodes[doomed.node].machine.pid, signal.SIGKILL)
        end = next_end(executor)
        assert (end.run_id, end.reason, end.code) == ("a", "lost", None)
        wait_for(lambda: not of_run(study, "a"), "its processes died", 120.0)
        assert of_run(study, "b"), "the other trial goes on"
        assert doomed.id in executor.quarantined
    assert not trial_processes(study)


def test_a_machine_that_dies_loses_its_trials_and_no_others(
    cluster: Any, study: str, tmp_path: Path
) -> None:
    """Runs last: it kills a raylet. What hung below it dies through the pipe; the run goes on elsewhere."""
    second = cluster.list_all_nodes()[1]
    with ray_executor(study) as executor:
        slots = {slot.id: slot for slot in executor.slots()}
        assert len(slots) == 2
        doomed = next(slot for slot in slots.values() if second.node_id.startswith(slot.id[:12]))
        spared = next(slot for slot in slots.values() if slot is not doomed)
        handles = {}
        for name, slot in (("a", doomed), ("b", spared)):
            handles[name] = executor.start(job(tmp_path, HOSTILE, name), slot)
            wait_for((tmp_path / name / "attempt-0001/ready").exists, "ready", 120.0)
        cluster.remove_node(second, allow_graceful=False)
        end = next_end(executor)
        assert (end.run_id, end.reason, end.code) == ("a", "lost", None)
        assert "is lost" in end.note
        wait_for(lambda: not of_run(study, "a"), "its processes died", 120.0)
        assert of_run(study, "b"), "the other machine's trial goes on"
        assert doomed.id in executor.quarantined
        assert not executor.slots(), "the other machine's slot is taken"
        other = handles["b"]
        executor.stop(other, hard=True)
        end = next_end(executor)
        assert (end.run_id, end.reason) == ("b", "stopped")
        again = job(tmp_path, ("true",), "a", attempt=2)
        executor.start(again, executor.slots()[0])
        assert next_end(executor).ok, "the lost run goes on where there still is a machine"
    assert not trial_processes(study)


def test_without_the_package_the_remedy_is_named(
    study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExecutorError, match=r"epigram\[ray\]"):
        ray_executor(study)
