"""``epigram pack`` and back, and what it refuses."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

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


def test_a_size_that_is_too_small_says_so(checkpoint: Path, tmp_path: Path) -> None:
    assert main(["pack", str(checkpoint), "--out", str(tmp_path / "w.epg"), "--bytes", "20"]) == 3


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


@pytest.mark.parametrize(
    "words",
    [
        ("--bytes", "9", "--max-error", "1"),
        ("--recipe", "lenet-5/mnist"),
        ("--floor", "accuracy>=0.9"),
    ],
    ids=["two-targets", "recipe-for-nothing", "floor-without-network"],
)
def test_calls_that_make_no_sense(checkpoint: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert main(["pack", str(checkpoint), "--out", str(tmp_path / "w.epg"), *words]) == 2
