"""A Ray cluster of two raylets on this machine, the second of which can be killed."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def two_machines(cpus: int = 2) -> Iterator[Any]:
    """Ray's own ``Cluster`` for tests: the head's raylet and another one, ``cpus`` processors each."""
    before = {name: os.environ.get(name) for name in ENV}
    os.environ.update(ENV)
    import ray
    from ray._private import services
    from ray.cluster_utils import Cluster

    patient = functools.partial(services.get_node, timeout_s=PATIENCE_S)
    mended = pytest.MonkeyPatch()
    mended.setattr(services, "get_node", patient)  # 30 s are not much on a busy machine
    cluster = Cluster(
        initialize_head=True,
        connect=False,
        head_node_args={
            "num_cpus": cpus,
            "include_dashboard": False,
            "object_store_memory": 80 << 20,
        },
    )
    try:
        cluster.add_node(num_cpus=cpus, object_store_memory=80 << 20)
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
