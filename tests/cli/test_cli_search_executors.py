"""``epigram search`` on a Ray cluster and through submitit, each from the command to the report."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest

from epigram import cli

ROOT = Path(__file__).resolve().parents[2]
NETWORK = """
from tests.pipeline import tiny_recipe
build, loaders = tiny_recipe.TinyNet, tiny_recipe.splits
"""
WORDS = """
search --model mine:build --data mine:loaders --floor accuracy>=0.5 --trials 1 --confirm 0
--sampler random --vary structure.kl_weight=0.1..1 --plain.epochs 1 --structure.epochs 2
--finetune.epochs 1 --out s --json
"""


def needs(package: str) -> pytest.MarkDecorator:
    found = importlib.util.find_spec(package) is not None
    return pytest.mark.skipif(not found, reason=f"{package} is not installed")


@pytest.fixture(autouse=True)
def _own_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}{os.pathsep}{ROOT}")
    (tmp_path / "mine.py").write_text(NETWORK)


def searched(executor: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Search with one trial; where it ran: its slot, and the host in its lease."""
    code = cli.main([*WORDS.split(), "--executor", executor])
    said = capsys.readouterr()
    assert code == cli.FLOOR_NOT_MET, said.err  # nothing was asked to be confirmed
    found = json.loads(said.out)
    assert found["trials"] == 1
    assert Path(found["page"]).is_file()
    events = [json.loads(line) for line in Path("s/ledger.jsonl").read_text().splitlines()]
    kinds = [event["type"] for event in events]
    (told,) = [event for event in events if event["type"] == "told"]
    assert told["kind"] == "finished", told
    return events[kinds.index("started")] | events[kinds.index("lease")]["lease"]


@pytest.mark.slow
@needs("submitit")
def test_a_search_through_submitit(capsys: pytest.CaptureFixture[str]) -> None:
    """On submitit's own scheduler of this machine, or on Slurm where there is one."""
    ran = searched("slurm", capsys)
    assert ran["slot"] == "batch-0"
    assert ran["host"].startswith("batch job ")


@pytest.mark.slow
@needs("ray")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_a_search_on_a_ray_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    from tests.runner.ray_cluster import two_machines

    with two_machines(cpus=1) as cluster:
        nodes = [node.node_id[:12] for node in cluster.list_all_nodes()]
        ran = searched("ray", capsys)
    assert ran["slot"].split("/")[0] in nodes
