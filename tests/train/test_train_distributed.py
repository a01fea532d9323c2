"""Two processes under torchrun: replicas stay equal to the bit, whatever happens to the network."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.train import distributed_run

from epigram.train import read_metrics

SCRIPT = Path(distributed_run.__file__)
NATIVE_ABORT = "terminate called without an active exception"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """All that needs two processes, in one start of them (importing torch takes most of the time).

    Torch may abort while it takes its processes apart, once both have written all that they found.
    """
    folder = tmp_path_factory.mktemp("distributed")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--master-addr", "127.0.0.1", "--master-port", "0", "--standalone"),
            *(str(SCRIPT), str(folder)),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    found = [folder / f"rank-{rank}.json" for rank in (0, 1)]
    apart = NATIVE_ABORT in done.stderr and all(path.exists() for path in found)
    assert done.returncode == 0 or apart, done.stderr[-3000:]
    return folder, [json.loads(path.read_text()) for path in found]


@pytest.mark.parametrize("what", ["plain", "adamw", "resumed", "deciding"])
def test_replicas_are_equal_to_the_bit(ran, what: str) -> None:
    first, second = (one[what] for one in ran[1])
    assert first == second
    assert all(math.isfinite(v) for values in first.values() for v in values)


def test_two_processes_do_what_one_does(ran, tmp_path: Path) -> None:
    """Nothing is random in the plain network: gradients are means over the same batches, in another
    order of addition.
    """
    alone = distributed_run.numbers(distributed_run.plain(tmp_path))
    for name, values in ran[1][0]["plain"].items():
        assert values == pytest.approx(alone[name], rel=1e-10, abs=1e-12)
    together = read_metrics(ran[0] / "plain" / "metrics.jsonl")
    single = read_metrics(tmp_path / "metrics.jsonl")
    for one, other in zip(together, single, strict=True):
        assert one["train"] == pytest.approx(other["train"], rel=1e-9)


def test_units_leave_both_and_the_loss_is_about_that_of_one_process(ran, tmp_path: Path) -> None:
    sizes = {name: len(values) for name, values in ran[1][0]["adamw"].items()}
    assert sizes["network.1.running_var"] == 6
    distributed_run.shrinking(tmp_path, "adamw")
    together = read_metrics(ran[0] / "adamw" / "metrics.jsonl")
    single = read_metrics(tmp_path / "metrics.jsonl")
    assert [r["epoch"] for r in together] == [1, 2, 3]
    assert [r["units"]["0"] for r in together] == [6, 6, 6]
    for one, other in zip(together, single, strict=True):
        # other noise and other batch statistics: 101 examples, a spread of some per cent
        assert one["train"]["nll"] == pytest.approx(other["train"]["nll"], rel=0.2)
        assert one["train"]["kl_nats"] == pytest.approx(other["train"]["kl_nats"], rel=0.01)


def test_what_the_shrinker_takes_leaves_both(ran) -> None:
    """Convolutions with batch normalisation and momentum: the leader's noise goes, in both, after two epochs."""
    sizes = {name: len(values) for name, values in ran[1][1]["deciding"].items()}
    assert (sizes["network.1.running_var"], sizes["network.4.running_var"]) == (6, 4)
    for one in ran[1]:
        assert one["left"] == {"0": [0, 2, 3, 5, 6, 7], "3": [1, 2, 3, 4]}
    rows = read_metrics(ran[0] / "deciding" / "metrics.jsonl")
    assert [r["units"]["0"] for r in rows] == [8, 6, 6, 6, 6]
    assert [r["units"]["3"] for r in rows] == [6, 4, 4, 4, 4]


def test_a_run_stopped_by_one_process_goes_on_as_if_it_had_not_been(ran) -> None:
    for one in ran[1]:
        assert one["resumed"] == one["adamw"]


def test_replicas_that_differ_are_noticed(ran) -> None:
    for one in ran[1]:
        assert "after epoch 1, the networks of processes [1] differ" in one["disagreeing"]


def test_only_the_leader_writes(ran) -> None:
    assert len((ran[0] / "adamw" / "metrics.jsonl").read_text().splitlines()) == 3
    names = {p.name for p in (ran[0] / "adamw").rglob("*") if p.is_file()}
    assert names == {"metrics.jsonl", "s.pt", "s.previous.pt"}
