"""How good, how sure and how fast a plain module is."""

from __future__ import annotations

from epigram.evaluate.agreement import class_accuracy_change_percent, disagreement_percent
from epigram.evaluate.calibration import CalibrationBins, calibration_bins
from epigram.evaluate.evaluation import Evaluation, Metric, evaluate_logits
from epigram.evaluate.multiplications import macs
from epigram.evaluate.passes import evaluate, predictions
from epigram.evaluate.timing import latency

__all__ = [
    "CalibrationBins",
    "Evaluation",
    "Metric",
    "calibration_bins",
    "class_accuracy_change_percent",
    "disagreement_percent",
    "evaluate",
    "evaluate_logits",
    "latency",
    "macs",
    "predictions",
]
