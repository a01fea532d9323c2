"""A Ray cluster of two raylets on this machine, the second of which can be killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ENV = {
    "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_gcs_server_request_timeout_seconds": "120",
    "RAY_worker_register_timeout_seconds": "300",
    "RAY_process_group_cleanup_enabled": "0",
    "CUDA_VISIBLE_DEVICES": "",
}


@contextmanager
def two_machines(cpus: int = 2) -> Iterator[Any]:
    """Ray's own ``Cluster`` for tests: the head's raylet and another one, ``cpus`` processors each."""
    before = {name: os.environ.get(name) for name in ENV}
    os.environ.update(ENV)
    import ray
    from ray.cluster_utils import Cluster

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
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
