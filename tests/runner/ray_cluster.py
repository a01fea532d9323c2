"""A Ray cluster of two raylets on this machine, the second of which can be killed."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 300.0
SMALL = {"object_store_memory": 80 << 20}
ENV = {
    "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_gcs_server_request_timeout_seconds": "120",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "CUDA_VISIBLE_DEVICES": "",
}


def patiently(get_node: Callable[[str, str], Any], address: str, node_id: str) -> Any:
    """A new raylet's entry, when it is there: Ray itself waits for 30 s, which a busy machine needs longer."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return get_node(address, node_id)
        except RuntimeError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(1.0)


@contextmanager
def two_machines(cpus: int = 2) -> Iterator[Any]:
    """Ray's own ``Cluster`` for tests: the head's raylet and another one, ``cpus`` processors each.

    Skips where they do not start: a raylet gives its helpers 15 s, come what may. Fails in CI.
    """
    with pytest.MonkeyPatch.context() as patched, ExitStack() as closing:
        for name, value in ENV.items():
            patched.setenv(name, value)
        import ray
        from ray._private import services
        from ray.cluster_utils import Cluster

        patched.setattr(services, "get_node", functools.partial(patiently, services.get_node))
        cluster = Cluster()
        closing.callback(cluster.shutdown)
        closing.callback(ray.shutdown)
        try:
            cluster.add_node(num_cpus=cpus, include_dashboard=False, **SMALL)
            cluster.add_node(num_cpus=cpus, **SMALL)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        except Exception as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"the Ray cluster did not start: {error}")
        yield cluster
