"""A Ray cluster of two raylets on this machine, the second of which can be killed."""

from __future__ import annotations

import functools
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 300.0
ENV = {
    "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_gcs_server_request_timeout_seconds": "120",
    "RAY_worker_register_timeout_seconds": "300",
    "CUDA_VISIBLE_DEVICES": "",
}


def machine(cpus: int) -> dict[str, int]:
    """Settings of a raylet. It gives its agents 15 s to tell their ports, unless it chooses them."""
    agents = ("metrics_agent", "runtime_env_agent", "dashboard_agent_listen", "metrics_export")
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in agents]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in sockets]
    chosen = dict(zip((f"{name}_port" for name in agents), ports, strict=True))
    return {"num_cpus": cpus, "object_store_memory": 80 << 20, **chosen}


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
    """Ray's own ``Cluster`` for tests: the head's raylet and another one, ``cpus`` processors each."""
    before = {name: os.environ.get(name) for name in ENV}
    os.environ.update(ENV)
    import ray
    from ray._private import services
    from ray.cluster_utils import Cluster

    mended = pytest.MonkeyPatch()
    mended.setattr(services, "get_node", functools.partial(patiently, services.get_node))
    cluster = Cluster(
        initialize_head=True,
        connect=False,
        head_node_args={"include_dashboard": False, **machine(cpus)},
    )
    try:
        cluster.add_node(**machine(cpus))
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()
        mended.undo()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
