"""A run with tied variances: its file, its posterior, and going on after a stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.pipeline.tiny_recipe import TinyConvNet, recipe, settings, splits

from epigram.convert import PosteriorSettings, bayesianize
from epigram.errors import FormatError
from epigram.pipeline import compress_recipe, load_posterior, predict
from epigram.train import BayesianLearner, TrainSettings, fit

TIED = PosteriorSettings(variances="tied")


def test_a_run_writes_a_file_and_a_posterior_that_comes_back(
    tmp_path: Path, no_report: None
) -> None:
    made = recipe(build=TinyConvNet, settings=settings(posterior=TIED), floor="accuracy>=0.6")
    result = compress_recipe(made, folder=tmp_path / "run", progress=None, keep_posterior=True)
    assert result["file_bytes"] > 0
    assert result["paper_counts"]["with_uncertainty"] > 1.0
    path, x = tmp_path / "run" / "posterior.safetensors", splits().test.inputs[:8]
    twin = load_posterior(path, into=TinyConvNet(), example_inputs=x, settings=TIED)
    stored = load_file(path)
    assert "network.fc1.layer.weight_output_logvar" in stored
    for name, tensor in twin.state_dict().items():
        assert torch.equal(tensor, stored[name]), name
    assert (predict(twin, x, samples=4, seed=0).std > 0).any()
    with pytest.raises(FormatError, match="does not fit"):
        load_posterior(path, into=TinyConvNet(), example_inputs=x)


def test_stopped_and_gone_on_with_it_ends_to_the_bit(tmp_path: Path) -> None:
    data = splits()
    short = TrainSettings(
        epochs=3, batch_size=50, learning_rate=0.01, logvar_lr_factor=10.0, tensorboard=False
    )

    def run(folder: str, **more) -> tuple[dict[str, torch.Tensor], bool]:
        torch.manual_seed(0)
        twin = bayesianize(TinyConvNet(), data.fit.inputs[:2], settings=TIED)
        learner = BayesianLearner(twin, len(data.fit), on_epoch=lambda end: shrink(learner, end))
        result = fit(
            learner,
            data.fit,
            replace(short, checkpoint_every_seconds=None),
            folder=tmp_path / folder,
            stage="structure",
            seed=1,
            progress=None,
            **more,
        )
        return twin.state_dict(), result.completed

    def shrink(learner: BayesianLearner, end) -> dict:
        kept = learner.twin.kept_masks()
        keep = {"fc1": torch.arange(int(kept["fc1"].sum())).numpy() > 0}
        learner.shrink_(keep, optimizer=end.optimizer)
        return {}

    whole, _ = run("whole")
    asked = iter([False] * 16 + [True] * 100)
    _, completed = run("stopped", stop=lambda: next(asked))
    assert not completed
    again, completed = run("stopped")
    assert completed
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    assert whole["network.fc1.layer.weight_output_logvar"].shape == (5, 1)
