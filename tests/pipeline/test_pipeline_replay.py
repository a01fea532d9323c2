"""A run that goes to NaN in any stage leaves a bundle that replays to the same bad tensor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.pipeline.tiny_recipe import bits_settings, recipe, settings

from epigram.errors import ConfigError, NonFiniteError
from epigram.pipeline import CompressSettings, Recipe, compress_recipe, replay_bundle


def _broken(stage: str) -> CompressSettings:
    made = bits_settings() if stage == "bits" else settings()
    trained = replace(getattr(made, stage), learning_rate=1e30, schedule="constant")
    made = replace(made, **{stage: replace(trained, clamp=False)})
    return replace(made, posterior=replace(made.posterior, logvar_max=None, scale_logvar_max=None))


@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("stage", ["plain", "structure", "finetune", "bits"])
def test_the_replay_finds_what_the_run_found(stage: str, tmp_path: Path) -> None:
    broken: Recipe = recipe(settings=_broken(stage))
    with pytest.raises(NonFiniteError) as caught:
        compress_recipe(broken, folder=tmp_path / "run", progress=None, force=True)
    bundle = caught.value.bundle
    assert bundle is not None and bundle.is_dir()
    report = replay_bundle(bundle, recipe())
    assert report.stage == stage
    assert report.reproduced
    assert str(report.found) == str(report.recorded)
    with pytest.raises(ConfigError, match="other/net"):
        replay_bundle(bundle, recipe(name="other/net"))
