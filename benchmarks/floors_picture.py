"""The picture of ``floors.py``: bytes against test error, with what others published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epigram.report.style import LIGHT, drawing, log_ticks, new_figure, png

PUBLISHED = (
    ("Soft weight-sharing (count)", 0.97, 1_724_320 / 162),
    ("Sparse VD (non-zeros only)", 0.75, 1_724_320 / 280),
    ("BC-GNJ (count)", 1.0, 1_724_320 / 573),
    ("BC-GHS (count)", 1.0, 1_724_320 / 771),
    ("EPR (coder's output)", 1.0, 2840),
    ("MIRACLE (count)", 0.96, 1520),
    ("MIRACLE (count)", 0.69, 3030),
    ("MIRACLE, re-implemented (file)", 0.98, 1140),
    ("MIRACLE, re-implemented (file)", 0.83, 1694),
)
"""(method and kind of size, test error in per cent, bytes) of LeNet-5-Caffe on MNIST, 1 724 320 bytes as
32-bit floats: Ullrich 2017; Molchanov 2017; Louizos 2017; Oktay 2020; Havasi 2019 and a re-implementation."""


def draw(found: Mapping[str, Any]) -> bytes:
    """A PNG: every file as a dot, the medians as a line, published points as crosses."""
    with drawing(LIGHT):
        figure = new_figure(width=7.5, height=5.0)
        axes = figure.subplots()
        runs = [run for figures in found.values() for run in figures["runs"]]
        axes.scatter(
            [run["test_error_percent"] for run in runs],
            [run["file_bytes"] for run in runs],
            color=LIGHT.bayes,
            s=14,
            alpha=0.5,
            label="epigram, every file",
        )
        medians = [figures["median"] for _, figures in sorted(found.items())]
        axes.plot(
            [run["test_error_percent"] for run in medians],
            [run["file_bytes"] for run in medians],
            color=LIGHT.bayes,
            marker="o",
            label="median seed of each floor",
        )
        for name, error, size in PUBLISHED:
            axes.plot([error], [size], marker="x", color=LIGHT.removed, linestyle="")
            axes.annotate(name, (error, size), (4, 3), textcoords="offset points", fontsize=7.5)
        axes.set_yscale("log")
        log_ticks(axes.yaxis, "{:,.0f}".format)
        axes.set_xlabel("test error, %")
        axes.set_ylabel("bytes")
        axes.legend(loc="upper right")
        return png(figure)
