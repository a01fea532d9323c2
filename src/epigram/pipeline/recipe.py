"""What is compressed: a network, its data, and the settings that go with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import nn

from epigram.data import Augmentation, Preprocess, Splits
from epigram.evaluate import Metric
from epigram.pipeline.settings import CompressSettings
from epigram.train import LossFn


@dataclass(frozen=True, eq=False)
class Recipe:
    """A network, a data set, and settings chosen for the two.

    Attributes:
        name: ``network/data``.
        description: one line for a listing.
        build: makes the original network; its weights are those to start from.
        load_data: makes the four splits.
        preprocess: applied to every batch on the device; None = inputs are ready.
        augment: applied to training batches; None = none.
        bits_augment: applied instead in the bits pass; None = as in the others (``settings.bits_augment`` = none).
        settings: of the run.
        floor: the floor where the caller names none; "" = there is none.
        loss_fn: (outputs, targets) -> mean NLL per example.
        metrics: metrics of the caller's own that a floor may name.
        sources: names of imported modules whose whole source belongs to the run's identity.
    """

    name: str
    description: str
    build: Callable[[], nn.Module]
    load_data: Callable[[], Splits]
    preprocess: Preprocess | None = None
    augment: Augmentation | None = None
    bits_augment: Augmentation | None = None
    settings: CompressSettings = field(default_factory=CompressSettings)
    floor: str = ""
    loss_fn: LossFn = F.cross_entropy
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
