"""Training that does not fall over: the loop, checkpoints and resume, the guard against NaN."""

from __future__ import annotations

from epigram.train.allocator import keep_freed_memory
from epigram.train.bayesian import BayesianLearner
from epigram.train.distillation import Distillation
from epigram.train.examine import Finding
from epigram.train.learner import EpochCallback, EpochEnd, Learner, LossFn, StepLoss
from epigram.train.loop import FitResult, fit
from epigram.train.metrics import read_metrics
from epigram.train.optimizers import build_optimizer, slice_optimizer_state_
from epigram.train.plain import PlainLearner
from epigram.train.progress import Progress, ProgressLine
from epigram.train.replay import ReplayReport, replay
from epigram.train.run_folder import RunFolder, read_config
from epigram.train.schedule import Schedule
from epigram.train.settings import TrainSettings
from epigram.train.signals import deadline

__all__ = [
    "BayesianLearner",
    "Distillation",
    "EpochCallback",
    "EpochEnd",
    "Finding",
    "FitResult",
    "Learner",
    "LossFn",
    "PlainLearner",
    "Progress",
    "ProgressLine",
    "ReplayReport",
    "RunFolder",
    "Schedule",
    "StepLoss",
    "TrainSettings",
    "build_optimizer",
    "deadline",
    "fit",
    "keep_freed_memory",
    "read_config",
    "read_metrics",
    "replay",
    "slice_optimizer_state_",
]
