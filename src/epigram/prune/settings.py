"""How units are chosen to go."""

from __future__ import annotations

from dataclasses import dataclass

from epigram.errors import ConfigError


@dataclass(frozen=True)
class PruneSettings:
    """The cut on removability, and when a unit goes while training is still on.

    Args:
        candidates: how many cuts are tried on the control split.
        tolerance: how much of the control metric a cut may cost where the floor is not met anyway
            (fine-tuning wins it back), in the metric's units.
        shrink: remove units physically during training.
        shrink_cut: removability beyond which a scale counts as noise during training; None = what
            the prior suggests (log alpha 3 for normal-Jeffreys, a mode of e⁻⁴ for the horseshoe).
        shrink_patience: for how many epochs in a row it must have been noise.
        round_to: channels and neurons leave so that a multiple of this is left, or all; odd numbers
            can be slower than larger round ones. Heads count by their width. 1 = no matter how many.

    Raises:
        ConfigError: a value is out of range.
    """

    candidates: int = 24
    tolerance: float = 0.001
    shrink: bool = True
    shrink_cut: float | None = None
    shrink_patience: int = 2
    round_to: int = 1

    def __post_init__(self) -> None:
        for name, least in (("candidates", 1), ("shrink_patience", 1), ("round_to", 1)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"PruneSettings.{name}: got {getattr(self, name)}, expected at least {least}"
                )
        if not self.tolerance >= 0:
            raise ConfigError(
                f"PruneSettings.tolerance: got {self.tolerance}, expected a number >= 0"
            )
