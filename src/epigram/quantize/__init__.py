"""Posterior -> step sizes and symbols."""

from __future__ import annotations

from epigram.quantize.paper_counts import PaperCounts, at_precision, paper_counts
from epigram.quantize.quantise import ToQuantise, quantise
from epigram.quantize.rate_distortion import choose_symbols, step_for_price
from epigram.quantize.settings import QuantizeSettings
from epigram.quantize.vectors import told_finely

__all__ = [
    "PaperCounts",
    "QuantizeSettings",
    "ToQuantise",
    "at_precision",
    "choose_symbols",
    "paper_counts",
    "quantise",
    "step_for_price",
    "told_finely",
]
