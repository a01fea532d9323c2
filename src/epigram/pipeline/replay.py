"""Replay the step at which a run's training went wrong, with the run's own network and settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from epigram import train
from epigram.config import from_dict
from epigram.convert import bayesianize
from epigram.errors import ConfigError
from epigram.pipeline.bits import STAGE, replayed_bits
from epigram.pipeline.job import Job
from epigram.pipeline.recipe import Recipe
from epigram.pipeline.settings import CompressSettings
from epigram.pipeline.stages import SmallLearner, StructureLearner, network_in
from epigram.pipeline.teaching import distilled
from epigram.prune import Shrinker


def replay_bundle(bundle: str | Path, recipe: Recipe) -> train.ReplayReport:
    """Run the step in a ``failure-NNNN`` folder again and name the first bad tensor.

    Args:
        bundle: the folder, where the run left it.
        recipe: the run's network and data; settings are taken from the run's ``config.json``.

    Raises:
        RunFolderError: the bundle does not lie in a run's folder.
        ConfigError: the run was of another recipe.
        FormatError: it is not a bundle, or is damaged.
    """
    bundle = Path(bundle)
    config = train.read_config(bundle.parent)["config"]
    if config.get("recipe") != recipe.name:
        raise ConfigError(
            f"{bundle}: is of a run of {config.get('recipe')!r}, got recipe {recipe.name!r}"
        )
    settings = from_dict(CompressSettings, config["settings"])
    job = Job(recipe, settings, bundle.parent, None, None, None)
    return train.replay(bundle, lambda about: _learner(job, about), device=settings.device)


def _learner(job: Job, about: Mapping[str, Any]) -> train.Learner:
    """The learner of the stage that failed, as it was when the stage began."""
    stage = str(about["stage"])
    if stage == "plain":
        return train.PlainLearner(job.build(), loss_fn=job.recipe.loss_fn)
    plain = network_in(job.folder, job)
    if stage == "structure":
        twin = bayesianize(plain, job.example, settings=job.settings.posterior)
        shrinker = Shrinker(job.settings.posterior.prior, job.settings.prune)
        return StructureLearner(twin, shrinker, job)
    if stage == STAGE:
        return replayed_bits(job, plain)
    return SmallLearner(
        job.build(),
        {},
        loss_fn=job.recipe.loss_fn,
        distillation=distilled(job, plain, "finetune"),
    )
