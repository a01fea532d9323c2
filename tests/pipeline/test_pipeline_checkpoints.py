"""Reading checkpoints: what kinds of tensors come, in which order, and which are refused by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from epigram.errors import ConfigError
from epigram.pipeline import packing
from epigram.pipeline.checkpoints import read_checkpoint

VALUES = torch.tensor([[1.0, 0.0, -2.0, 0.0], [0.0, 0.5, 0.0, 4.0]])


def _read(tensor: Tensor, path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, while it writes
        torch.save({"layer.weight": tensor}, path)
    return read_checkpoint(path)["layer.weight"]


@pytest.mark.parametrize(
    "made",
    [
        nn.Parameter,
        Tensor.to_sparse,
        Tensor.to_sparse_csr,
        Tensor.bfloat16,
        lambda v: v.to(torch.float8_e4m3fn),
        lambda v: v.to(torch.float8_e5m2),
        lambda v: torch._neg_view(-v),
        lambda v: torch.quantize_per_tensor(v, 0.5, 0, torch.qint8),
        Tensor.t,
    ],
    ids=["parameter", "coo", "csr", "bf16", "e4m3", "e5m2", "negative", "quantised", "transposed"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_kind_of_tensor_comes_as_its_values(
    made: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    found = _read(made(VALUES), tmp_path / "w.pt")
    expected = VALUES.numpy().T if made is Tensor.t else VALUES.numpy()
    np.testing.assert_array_equal(found, expected)
    assert packing.pack({"w": found}, max_error=0.1).relative_error <= 0.1


def test_conjugate_views_are_resolved(tmp_path: Path) -> None:
    turned = torch.complex(VALUES, VALUES).conj()
    np.testing.assert_array_equal(_read(turned, tmp_path / "w.pt"), turned.resolve_conj().numpy())


def test_float8_of_safetensors_is_read(tmp_path: Path) -> None:
    save_file({"w": VALUES.to(torch.float8_e4m3fn)}, tmp_path / "w.safetensors")
    found = read_checkpoint(tmp_path / "w.safetensors")["w"]
    np.testing.assert_array_equal(found, VALUES.numpy())


@pytest.mark.parametrize(
    "tensor",
    [
        torch.empty(3, 4, device="meta"),
        torch.zeros(3, 4, dtype=torch.uint8).view(torch.bits8),
    ],
    ids=["meta", "bits"],
)
def test_what_has_no_values_is_refused_by_name(tensor: Tensor, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"w\.pt: layer\.weight: got a tensor of"):
        _read(tensor, tmp_path / "w.pt")


def test_a_safetensors_file_is_the_same_file_each_time(tmp_path: Path) -> None:
    """Its reader hands tensors out in an order of chance."""
    values = np.random.default_rng(0).normal(size=(30, 4, 4))
    tensors = {f"layer{i}.weight": torch.from_numpy(v) for i, v in enumerate(values)}
    save_file(tensors, tmp_path / "m.safetensors")
    states = [read_checkpoint(tmp_path / "m.safetensors") for _ in range(4)]
    assert all(list(state) == sorted(tensors) for state in states)
    assert len({packing.pack(state, max_error=0.1).data for state in states}) == 1
