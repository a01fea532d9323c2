"""The head of a Ray cluster is lost: Ray ends the driver, and nothing of its trials is left."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from tests.runner.hostile import end_of, executor_of, job, start, trial_processes, wait_for

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


def test_when_the_head_is_lost_driver_and_trials_end_and_the_runs_can_go_on(
    study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.runner.ray_cluster import two_machines

    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")  # a minute unless told
    with two_machines(cpus=1) as cluster:
        import ray

        ray.shutdown()  # or Ray would end this process as well
        command = [sys.executable, "-m", "tests.runner.ray_driver", cluster.address, study]
        with (tmp_path / "said").open("wb") as said:
            driver = subprocess.Popen(command, stdout=said, stderr=said)
        try:
            ready = tmp_path.glob
            wait_for(lambda: len(list(ready("*/attempt-0001/ready"))) == 2, "ready", 120.0)
            cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
            assert driver.wait(120.0) == 1
            wait_for(lambda: not trial_processes(study), "the trials ended", 120.0)
        finally:
            driver.kill()
            driver.wait()
    last = (tmp_path / "said").read_text().splitlines()[-1]  # before it Ray may have said more
    assert "Failed to connect to GCS" in last
    with executor_of(study) as executor:
        start(executor, job(tmp_path, ("true",), "r0", attempt=2))
        assert end_of(executor).ok
