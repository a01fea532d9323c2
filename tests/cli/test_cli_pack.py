"""``epigram pack`` and back, and what it refuses."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from epigram.cli import main


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "w.safetensors"
    state = {
        "conv.weight": rng.normal(size=(8, 4, 3, 3)).astype(np.float32),
        "norm.running_var": rng.uniform(0.5, 2, 8).astype(np.float32),
        "norm.num_batches_tracked": np.array(7),
        "fc.weight": rng.normal(size=(10, 32)).astype(np.float32),
        "fc.bias": rng.normal(size=10).astype(np.float32),
    }
    save_file(state, path)
    return path


def _packed(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    assert main(["pack", *map(str, words), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_there_and_back(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, back = tmp_path / "w.epg", tmp_path / "back.safetensors"
    found = _packed(capsys, checkpoint, "--out", out, "--max-error", "0.04")
    assert found["file_bytes"] == out.stat().st_size and found["relative_error"] <= 0.04
    assert found["relative_error"] > 0.03  # and not much finer than was asked
    assert main(["unpack", str(out), "--out", str(back)]) == 0
    before, after = load_file(checkpoint), load_file(back)
    assert list(after) == sorted(before) or set(after) == set(before)
    weights = [n for n in before if before[n].ndim > 1]
    lost = sum(float(np.square(before[n] - after[n]).sum()) for n in weights)
    power = sum(float(np.square(before[n]).sum()) for n in weights)
    assert (lost / power) ** 0.5 == pytest.approx(found["relative_error"], rel=1e-4)
    assert after["norm.num_batches_tracked"] == 7
    np.testing.assert_allclose(after["norm.running_var"], before["norm.running_var"], rtol=0.01)


def test_a_size_is_kept_and_nearly_used(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _packed(capsys, checkpoint, "--out", tmp_path / "w.epg", "--bytes", 700)
    assert 640 < found["file_bytes"] <= 700


def test_a_size_is_read_as_a_budget_is(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _packed(capsys, checkpoint, "--out", tmp_path / "w.epg", "--bytes", "0.7kB")
    assert 640 < found["file_bytes"] <= 700


@pytest.mark.parametrize(
    ("target", "asked", "reached"),
    [
        (("--bytes", "20"), "20 bytes", "the smallest file has {file_bytes} bytes"),
        (("--max-error", "1e-12"), "a relative error of 1e-12", "{relative_error:.3g}"),
    ],
)
def test_a_target_that_is_missed_says_what_was_reached(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    target: tuple[str, str],
    asked: str,
    reached: str,
) -> None:
    out = tmp_path / "w.epg"
    assert main(["pack", str(checkpoint), "--out", str(out), *target, "--json"]) == 3
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert not found["met"] and reached.format(**found) in found["reason"]
    assert printed.err.startswith(f"epigram: {asked} could not be met: {found['reason']}. ")
    assert printed.err.count("\n") == 1 and out.stat().st_size == found["file_bytes"]


def test_a_state_dict_of_torch_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.pt"
    torch.save({"state_dict": {"w": torch.randn(5, 6, dtype=torch.bfloat16)}}, path)
    assert _packed(capsys, path, "--out", tmp_path / "w.epg")["file_bytes"] > 20


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("was-run"),))


def test_pickled_code_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, write in (("a.pt", torch.save), ("b.pt", _pickled)):
        write({"w": _Evil()}, tmp_path / name)
        assert main(["pack", name, "--out", "w.epg"]) == 2
        assert "weights_only" in capsys.readouterr().err
    assert not Path("was-run").exists()


def _pickled(what: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(what))


_OWN = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

def data():
    x = torch.randn(120, 4, generator=torch.Generator().manual_seed(0))
    y = (x.sum(1) > 0).long()
    return [(x[i : i + 40], y[i : i + 40]) for i in (0, 40, 80)]
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, torch.Tensor]]:
    """A network and data of one's own, and weights that solve the task, in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("packed_own.py").write_text(_OWN)
    first = torch.zeros(8, 4)
    first[0], first[1] = 1.0, -1.0
    last = torch.zeros(2, 8)
    last[1, 0], last[0, 1] = 1.0, 1.0
    yield {"0.weight": first, "0.bias": torch.zeros(8), "2.weight": last, "2.bias": torch.zeros(2)}
    sys.modules.pop("packed_own", None)


_OWN_FLAGS = ("--out", "w.epg", "--model", "packed_own:build", "--data", "packed_own:data")


def test_parameters_are_packed_and_calibration_needs_no_target(
    own: dict[str, torch.Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({name: nn.Parameter(value) for name, value in own.items()}, "w.pt")
    found = _packed(capsys, "w.pt", *_OWN_FLAGS, "--calibration", 8)
    assert 0.01 < found["relative_error"] <= 0.05 and found["reason"] is None


def test_a_floor_is_judged_by_validation(
    own: dict[str, torch.Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(own, "w.pt")
    found = _packed(capsys, "w.pt", *_OWN_FLAGS, "--floor", "accuracy>=99%")
    assert found["met"] and found["validation_value"] >= 0.99


@pytest.mark.parametrize(
    ("left_out", "words", "says"),
    [
        ("2.weight", ("--floor", "accuracy>=0.5"), "lacks 2.weight"),
        ("2.weight", ("--calibration", "8"), "lacks 2.weight"),
        (None, ("--floor", "accuracy>=99"), "at most 1"),
        (None, ("--floor", "nll<=0.001"), "more than the checkpoint reaches"),
        (None, ("--calibration", "-3"), "'-3'"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(
    own: dict[str, torch.Tensor],
    capsys: pytest.CaptureFixture[str],
    left_out: str | None,
    words: tuple[str, ...],
    says: str,
) -> None:
    own.pop(left_out or "", None)
    torch.save(own, "w.pt")
    assert main(["pack", "w.pt", *_OWN_FLAGS, *words]) == 2
    printed = capsys.readouterr()
    assert says in printed.err and printed.err.count("\n") == 1 and not printed.out
    assert not Path("w.epg").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--bytes", "9", "--max-error", "1"),
        ("--recipe", "lenet-5/mnist"),
        ("--floor", "accuracy>=0.9"),
        ("--bytes", "-5"),
        ("--bytes", "much"),
    ],
    ids=["two-targets", "recipe-for-nothing", "floor-without-network", "negative", "no-size"],
)
def test_calls_that_make_no_sense(checkpoint: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert main(["pack", str(checkpoint), "--out", str(tmp_path / "w.epg"), *words]) == 2
