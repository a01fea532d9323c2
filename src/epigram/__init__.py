"""epigram: train a PyTorch network until it says it in the fewest bits."""

from __future__ import annotations

__version__ = "0.1.0"
