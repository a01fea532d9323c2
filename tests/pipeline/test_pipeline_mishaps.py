"""What must not cost a run: odd batches, networks that need two examples, half precision, full disks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.pipeline.tiny_recipe import TinyConvNet, TinyNet, examples, recipe, settings, splits
from torch import Tensor, nn

import epigram
from epigram.convert import bayesianize, masked_plain
from epigram.errors import (
    ConfigError,
    NonFiniteError,
    RemovalError,
    StorageError,
    UnsupportedModelError,
)
from epigram.pipeline import api, compress_recipe, run
from epigram.structure import verify_removal

pytestmark = pytest.mark.usefixtures("no_report")


class NeedsTwo(nn.Module):
    """Normalises over the batch, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(36, 8)
        self.norm = nn.BatchNorm1d(8, track_running_stats=False)
        self.fc2 = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.relu(self.norm(self.fc1(torch.flatten(x, 1)))))


def test_a_network_that_needs_two_examples_has_no_latency_but_a_result(tmp_path: Path) -> None:
    result = compress_recipe(
        recipe(build=NeedsTwo), folder=tmp_path / "run", progress=None, force=True
    )
    assert result["latency_ms"] is None
    assert result["file_bytes"] == (tmp_path / "run" / "model.epg").stat().st_size


def test_a_last_batch_of_one_is_refused_where_it_would_break_normalisation(tmp_path: Path) -> None:
    parts = splits()
    odd = replace(parts, fit=parts.fit.subset(slice(0, 551)))
    made = recipe(build=TinyConvNet, load_data=lambda: odd)
    with pytest.raises(ConfigError, match="last batch of one"):
        compress_recipe(made, folder=tmp_path / "run", progress=None)


def test_bfloat16_weights_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedModelError, match=r"fc1.*bfloat16"):
        bayesianize(TinyNet().to(torch.bfloat16), torch.ones(2, 36, dtype=torch.bfloat16))


def test_the_callers_random_state_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    compress_recipe(recipe(), folder=tmp_path / "run", progress=None)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_wrong_removal_is_caught_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_much(twin, keep):
        network = masked_plain(twin, keep)
        nn.init.zeros_(network.fc3.weight)
        return network

    monkeypatch.setattr(run, "masked_plain", too_much)
    with pytest.raises(RemovalError):
        compress_recipe(recipe(), folder=tmp_path / "run", progress=None)
    assert not (tmp_path / "run" / "model.epg").exists()


@pytest.mark.parametrize("build", [TinyNet, TinyConvNet])
def test_the_masked_network_is_what_shrinking_leaves(build: type[nn.Module]) -> None:
    x = splits().test.inputs[:4]
    twin = bayesianize(build(), x).eval()
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):  # the second time on a twin that has shrunken already
        keep = {
            name: (torch.rand(kept, generator=generator) < 0.6).numpy()
            | (torch.arange(kept) == 0).numpy()
            for name, (kept, _) in twin.units_kept().items()
        }
        masked = masked_plain(twin, keep)
        twin.shrink_(keep)
        assert verify_removal(twin.plain(), masked, x) < 1e-5


def test_without_a_folder_a_failure_says_where_its_bundle_is() -> None:
    data = examples(400, seed=1, name="train")
    made = settings(plain=type(settings().plain)(epochs=0))
    broken = replace(
        made,
        structure=replace(made.structure, learning_rate=1e30, clamp=False),
        posterior=replace(made.posterior, logvar_max=None, scale_logvar_max=None),
    )
    with pytest.raises(NonFiniteError) as caught:
        epigram.compress(
            TinyNet(), data, floor="accuracy>=0.1", settings=broken, force=True, progress=None
        )
    assert caught.value.bundle is not None and caught.value.bundle.is_dir()
    assert any(str(caught.value.bundle.parent) in note for note in caught.value.__notes__)


def test_a_full_disk_at_out_leaves_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model.epg"
    out.write_bytes(b"the one from yesterday")
    write = api.atomic.write_bytes

    def full(path: Path, data: bytes, **more: Path | None) -> None:
        if path == out:
            raise StorageError(28, f"could not write {path}: no space left")
        write(path, data, **more)

    monkeypatch.setattr(api.atomic, "write_bytes", full)
    data = examples(400, seed=1, name="train")
    made = settings(plain=type(settings().plain)(epochs=0))
    with pytest.raises(StorageError):
        epigram.compress(
            TinyNet(),
            data,
            floor="accuracy>=0.1",
            settings=made,
            force=True,
            progress=None,
            out=out,
        )
    assert out.read_bytes() == b"the one from yesterday"
