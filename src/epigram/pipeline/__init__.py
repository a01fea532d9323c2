"""The order of the stages, from a network to a verified file."""

from __future__ import annotations

from epigram.layers import Prediction, predict
from epigram.pipeline.api import Compressed, compress, evaluate_file
from epigram.pipeline.posterior import load_posterior
from epigram.pipeline.recipe import Recipe
from epigram.pipeline.replay import replay_bundle
from epigram.pipeline.run import check_recipe, compress_recipe, train_recipe
from epigram.pipeline.settings import BITS, LADDER, CompressSettings
from epigram.pipeline.steering import SteerSettings

__all__ = [
    "BITS",
    "LADDER",
    "CompressSettings",
    "Compressed",
    "Prediction",
    "Recipe",
    "SteerSettings",
    "check_recipe",
    "compress",
    "compress_recipe",
    "evaluate_file",
    "load_posterior",
    "predict",
    "replay_bundle",
    "train_recipe",
]
