"""All settings of a run, in one frozen tree."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from epigram.config import bookkeeping
from epigram.convert import PosteriorSettings
from epigram.errors import ConfigError
from epigram.prune import PruneSettings
from epigram.quantize import QuantizeSettings
from epigram.train import TrainSettings


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
        teacher_share: the plain network's part in the fine-tuning loss, 0 to 1.
        quantize: the exchange rate between bits and precision.
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
            logvar_lr_factor=10.0,
            scale_lr_factor=10.0,
            grad_clip=5.0,
            kl_warmup_epochs=4.0,
        )
    )
    prune: PruneSettings = field(default_factory=PruneSettings)
    finetune: TrainSettings = field(default_factory=lambda: TrainSettings(epochs=15))
    teacher_share: float = 0.0
    quantize: QuantizeSettings = field(default_factory=QuantizeSettings)
    profile: Literal["bare", "named"] = "bare"
    device: str = "cpu"
    page: bool = bookkeeping(True)

    def __post_init__(self) -> None:
        if not 0.0 <= self.teacher_share <= 1.0:
            raise ConfigError(
                f"CompressSettings.teacher_share: got {self.teacher_share}, expected 0 to 1"
            )
        if self.profile not in ("bare", "named"):
            raise ConfigError(
                f"CompressSettings.profile: got {self.profile!r}, expected 'bare' or 'named'"
            )
