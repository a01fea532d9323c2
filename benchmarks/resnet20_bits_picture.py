"""The picture of ``resnet20_bits.py``: bytes against error of every file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epigram.report.style import LIGHT, drawing, log_ticks, new_figure, png

KINDS = (
    ("epigram", "epigram", LIGHT.bayes, "o"),
    ("nncodec", "NNCodec 2.1.3", LIGHT.removed, "s"),
    ("int8", "torch int8 + zip", LIGHT.third, "^"),
    ("adapted", "as float32", LIGHT.ink, "D"),
)


def draw(cells: Mapping[str, Any]) -> bytes:
    """A PNG; errors are those on the test set where every cell has one, else on validation."""
    read = bool(cells) and all("test_accuracy" in cell for cell in cells.values())
    metric = "test_accuracy" if read else "validation_accuracy"
    with drawing(LIGHT):
        figure = new_figure(width=7.5, height=5.0)
        axes = figure.subplots()
        for kind, label, colour, marker in KINDS:
            points: dict[str, list[tuple[float, float]]] = {}
            for key, cell in cells.items():
                name, _, seed = key.partition("/")
                if name.partition("-")[0] == kind:
                    error = 100 * (1 - cell[metric])
                    points.setdefault(seed, []).append((error, cell["bytes"]))
            for index, line in enumerate(points.values()):
                axes.plot(
                    *zip(*sorted(line), strict=True),
                    color=colour,
                    marker=marker,
                    linewidth=1.0,
                    label=label if index == 0 else None,
                )
        axes.set_yscale("log")
        log_ticks(axes.yaxis, "{:,.0f}".format)
        axes.set_xlabel(f"{'test' if read else 'validation'} error, %")
        axes.set_ylabel("bytes")
        axes.legend(loc="upper right")
        return png(figure)
