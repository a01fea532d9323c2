"""All settings of a run, in one frozen tree."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from epigram.config import bookkeeping
from epigram.convert import CodingSettings, PosteriorSettings
from epigram.errors import ConfigError
from epigram.pipeline.steering import SteerSettings
from epigram.prune import PruneSettings
from epigram.quantize import QuantizeSettings
from epigram.train import TrainSettings

BITS: Final = TrainSettings(
    epochs=60,
    cycles=5,
    batch_size=256,
    learning_rate=2e-3,
    scale_lr_factor=3.0,
    final_factor=0.02,
    kl_weight=0.15,
    kl_warmup_epochs=5.0,
)
"""The bits pass where nothing else is said: its price begins low and rises from cycle to cycle."""

LADDER: Final = replace(BITS, epochs=0)
"""No bits pass: a ladder of prices makes the file."""


@dataclass(frozen=True)
class CompressSettings:
    """How a network is trained, made small, and written.

    Args:
        seed: of weights, data order and all noise.
        plain: training of the plain network (the baseline, and where the twin starts).
        posterior: prior, start and bounds of the twin.
        structure: training of the twin.
        prune: when and which units go.
        finetune: training of the small network before it is quantised.
        bits: training of the small network's symbols by the size of their file; 0 epochs = none, the
            ladder of prices makes the file instead.
        bits_augment: does the bits pass see augmented inputs too? A network that is small for its task does better
            without coarse ones: it need not spend bits on inputs that nobody will show it.
        coding: steps and the prior over symbols.
        steer: how the floor moves the weight of the complexity in both passes.
        teacher_share: the plain network's part in the loss of fine-tuning and of the bits pass, 0 to 1.
        teacher_temperature: what softens its answers and the small network's.
        teacher_mixup: alpha of Beta(alpha, alpha), by which pairs of inputs are mixed where the teacher answers; 0 = none.
        quantize: the exchange rate between bits and precision.
        fall_back: where the small network misses the floor, take a larger file that holds it: one of finer steps, or the
            plain network's own weights, coded.
        profile: ``bare`` (smallest; read with the original class) or ``named``.
        device: where to train.
        page: write the HTML page and its pictures in the end.

    Raises:
        ConfigError: a value is out of range.
    """

    seed: int = 0
    plain: TrainSettings = field(default_factory=lambda: TrainSettings(epochs=15))
    posterior: PosteriorSettings = field(default_factory=PosteriorSettings)
    structure: TrainSettings = field(
        default_factory=lambda: TrainSettings(
            epochs=24,
            kl_weight=0.1,
            logvar_lr_factor=10.0,
            scale_lr_factor=10.0,
            grad_clip=5.0,
            kl_warmup_epochs=4.0,
        )
    )
    prune: PruneSettings = field(default_factory=PruneSettings)
    finetune: TrainSettings = field(default_factory=lambda: TrainSettings(epochs=15))
    bits: TrainSettings = BITS
    bits_augment: bool = True
    coding: CodingSettings = field(default_factory=CodingSettings)
    steer: SteerSettings = field(
        default_factory=lambda: SteerSettings(ahead=0.0, harder=0.0, cycle_rate=0.6)
    )
    teacher_share: float = 0.9
    teacher_temperature: float = 2.0
    teacher_mixup: float = 0.0
    quantize: QuantizeSettings = field(default_factory=QuantizeSettings)
    fall_back: bool = True
    profile: Literal["bare", "named"] = "bare"
    device: str = "cpu"
    page: bool = bookkeeping(True)

    def __post_init__(self) -> None:
        if not 0.0 <= self.teacher_share <= 1.0:
            raise ConfigError(
                f"CompressSettings.teacher_share: got {self.teacher_share}, expected 0 to 1"
            )
        if not 0.0 < self.teacher_temperature < math.inf:
            raise ConfigError(
                f"CompressSettings.teacher_temperature: got {self.teacher_temperature}, expected a "
                "number > 0"
            )
        if not 0.0 <= self.teacher_mixup < math.inf:
            raise ConfigError(
                f"CompressSettings.teacher_mixup: got {self.teacher_mixup}, expected a number >= 0"
            )
        if self.profile not in ("bare", "named"):
            raise ConfigError(
                f"CompressSettings.profile: got {self.profile!r}, expected 'bare' or 'named'"
            )
