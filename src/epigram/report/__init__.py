"""Reports: the page of a run, the comparison of several, and the table in the terminal.

Needs numpy, matplotlib, pillow and rich; never torch.
"""

from __future__ import annotations

from epigram.report.comparison import Comparison, Difference, compare
from epigram.report.run_page import build
from epigram.report.terminal import table

__all__ = ["Comparison", "Difference", "build", "compare", "table"]
