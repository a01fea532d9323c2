"""An ordinary network to its variational twin, and back."""

from __future__ import annotations

from epigram.convert.build import bayesianize, convertible_layers
from epigram.convert.coded import CodedNetwork
from epigram.convert.coded_parameter import CodedParameter
from epigram.convert.coding import CodingSettings
from epigram.convert.cutting import Cut
from epigram.convert.dense import dense_weights
from epigram.convert.folding import Folded, fold_normalisation
from epigram.convert.kept import position_key
from epigram.convert.masking import masked_plain
from epigram.convert.posterior import TensorPosterior
from epigram.convert.settings import PosteriorSettings, PriorName
from epigram.convert.twin import Twin

__all__ = [
    "CodedNetwork",
    "CodedParameter",
    "CodingSettings",
    "Cut",
    "Folded",
    "PosteriorSettings",
    "PriorName",
    "TensorPosterior",
    "Twin",
    "bayesianize",
    "convertible_layers",
    "dense_weights",
    "fold_normalisation",
    "masked_plain",
    "position_key",
]
