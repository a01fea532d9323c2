"""A kept posterior comes back as the twin it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.pipeline.tiny_recipe import TinyConvNet, TinyNet, settings, splits

from epigram.errors import FormatError
from epigram.pipeline import load_posterior, predict

pytestmark = pytest.mark.usefixtures("finished")


def test_it_predicts_with_the_units_the_file_has(finished: tuple[Path, dict]) -> None:
    folder, result = finished
    x = splits().test.inputs[:16]
    twin = load_posterior(
        folder / "posterior.safetensors",
        into=TinyNet(),
        example_inputs=x,
        settings=settings().posterior,
    )
    kept = {name: after for name, (after, _) in twin.units_kept().items()}
    assert kept == {name: entry["after"] for name, entry in result["units"].items()}
    stored = load_file(folder / "posterior.safetensors")
    for name, tensor in twin.state_dict().items():
        assert torch.equal(tensor, stored[name]), name
    first, second = (predict(twin, x, samples=8, seed=seed) for seed in (0, 1))
    assert first.mean.shape == (16, 3)
    assert not torch.equal(first.mean, second.mean)  # it samples
    assert (first.std > 0).any()


def test_another_network_is_refused(finished: tuple[Path, dict], tmp_path: Path) -> None:
    folder, _ = finished
    x = splits().test.inputs[:2]
    path = folder / "posterior.safetensors"
    with pytest.raises(FormatError, match="TinyConvNet"):
        load_posterior(path, into=TinyConvNet(), example_inputs=x)
    damaged = tmp_path / "posterior.safetensors"
    damaged.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FormatError, match="not a posterior"):
        load_posterior(damaged, into=TinyNet(), example_inputs=x)
