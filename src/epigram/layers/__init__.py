"""Thin variational layers; the prior over their input units is composed in."""

from __future__ import annotations

from epigram.layers.attention import VariationalMultiheadAttention, why_attention_stays
from epigram.layers.base import VariationalLayer
from epigram.layers.conv import VariationalConv1d, VariationalConv2d, VariationalConv3d
from epigram.layers.conv_transpose import (
    VariationalConvTranspose1d,
    VariationalConvTranspose2d,
    VariationalConvTranspose3d,
)
from epigram.layers.embedding import VariationalEmbedding
from epigram.layers.linear import VariationalLinear
from epigram.layers.prediction import Prediction, predict
from epigram.layers.scaling import ScaleUse
from epigram.layers.transposed import VariationalTransposedLinear
from epigram.layers.twins import (
    NORMALISATION,
    TWINS,
    from_plain,
    sampling,
    scales_of,
    to_plain,
    total_kl_nats,
    variational_layers,
    why_deterministic,
)
from epigram.priors import shared_draws

__all__ = [
    "NORMALISATION",
    "TWINS",
    "Prediction",
    "ScaleUse",
    "VariationalConv1d",
    "VariationalConv2d",
    "VariationalConv3d",
    "VariationalConvTranspose1d",
    "VariationalConvTranspose2d",
    "VariationalConvTranspose3d",
    "VariationalEmbedding",
    "VariationalLayer",
    "VariationalLinear",
    "VariationalMultiheadAttention",
    "VariationalTransposedLinear",
    "from_plain",
    "predict",
    "sampling",
    "scales_of",
    "shared_draws",
    "to_plain",
    "total_kl_nats",
    "variational_layers",
    "why_attention_stays",
    "why_deterministic",
]
