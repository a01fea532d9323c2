"""What ``epigram search`` varies where it is not told: the settings that decide size and error.

Ranges are a decade or so around a recipe's own values, which are the first trial.
"""

from __future__ import annotations

from collections.abc import Mapping

from epigram.search.dimensions import Dimension, Real, Whole
from epigram.search.space import WIDTHS, Space

_COMMON: Mapping[str, Dimension] = {
    "structure.kl_weight": Real(0.05, 5.0, log=True),
    "structure.learning_rate": Real(3e-4, 5e-3, log=True),
    "structure.scale_lr_factor": Real(3.0, 50.0, log=True),
    "prune.tolerance": Real(3e-4, 2e-2, log=True),
    "finetune.learning_rate": Real(3e-4, 1e-2, log=True),
    "teacher_share": Real(0.0, 0.9),
}

_LEAST_WIDTH = 4


def preset(widths: Mapping[str, int] | None = None) -> Space:
    """The space of any recipe; with ``widths``, each layer may have from a quarter to its own width.

    Args:
        widths: layer -> units, of a recipe whose widths can be varied.

    Example:
        >>> sorted(preset({"fc1": 300}).dimensions)[-1]
        'widths.fc1'
    """
    varied = {
        f"{WIDTHS}.{name}": Whole(max(_LEAST_WIDTH, width // 4), width, log=True)
        for name, width in (widths or {}).items()
        if width > _LEAST_WIDTH * 2
    }
    return Space({**_COMMON, **varied})
