"""Pooling and resampling: they mix neighbouring positions and keep channels apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epigram.structure.rules.contractions import channels

if TYPE_CHECKING:
    from epigram.structure.call import Call, Rule, Value


def pool(call: Call) -> Value:
    """Tie the last one, two or three axes (the digit in the operator's name says how many)."""
    labels = call.subject
    spatial = next(int(c) for c in call.name if c.isdigit())
    channel = labels.dim() - spatial - 1
    along = channels(call, channel)
    shaped = along.reshape((-1,) + (1,) * spatial).expand(call.shape)
    return call.results(shaped)


_PER_DIGIT = [
    "max_pool",
    "avg_pool",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "upsample_nearest",
    "_upsample_nearest_exact",
    "upsample_nearest_exact",
]
_OTHERS = [
    "max_pool2d_with_indices",
    "max_pool3d_with_indices",
    "upsample_linear1d",
    "upsample_bilinear2d",
    "_upsample_bilinear2d_aa",
    "upsample_bicubic2d",
    "_upsample_bicubic2d_aa",
    "upsample_trilinear3d",
]

RULES: dict[str, Rule] = {
    **{f"{name}{spatial}d": pool for name in _PER_DIGIT for spatial in (1, 2, 3)},
    **dict.fromkeys(_OTHERS, pool),
}
