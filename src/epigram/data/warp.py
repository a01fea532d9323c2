"""Images turned, stretched, slanted and moved by parts of a pixel, in one of a few ways fixed beforehand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from epigram.data.augment import Augmentation
from epigram.errors import ConfigError, DataError

_MAPS_SEED = 7
_WIDEST = 2.0
"""In standard deviations: beyond, a digit may become another one."""


@dataclass(frozen=True, kw_only=True)
class Warp(Augmentation):
    """Each image changed by one of ``ways`` affine maps, as hands and scanners vary.

    The maps are the same in every run, and are finitely many, so that a teacher can answer all inputs there are once
    (``train/known_answers.py``). Their turns, stretches, slants and moves are normally distributed and cut off at two standard
    deviations. Pixels are interpolated bilinearly; what moves in from outside is 0. ``uint8`` images are
    rounded, so an input is the same to the bit whatever batch it comes in.

    Args:
        ways: how many maps there are.
        turn: standard deviation of the angle, degrees.
        stretch: of the factors of height and width.
        slant: of the columns' displacement per row.
        move: of the moves down and right, pixels.

    Raises:
        ConfigError: no map, or a negative deviation.
    """

    ways: int = 16
    turn: float = 5.0
    stretch: float = 0.05
    slant: float = 0.1
    move: float = 0.6

    def __post_init__(self) -> None:
        if self.ways < 1:
            raise ConfigError(f"warp.ways: got {self.ways}, expected 1 or more")
        for name in ("turn", "stretch", "slant", "move"):
            value = getattr(self, name)
            if not 0.0 <= value < math.inf:
                raise ConfigError(f"warp.{name}: got {value}, expected 0 or more")

    def draw(self, count: int, *, generator: torch.Generator) -> Int64[Tensor, "count 1"]:
        """Which map each of ``count`` images gets."""
        return torch.randint(
            self.ways, (count, 1), generator=generator, device=generator.device, dtype=torch.int64
        )

    def variants(self) -> Int64[Tensor, "ways 1"]:
        """All that can be drawn for an image."""
        return torch.arange(self.ways).view(-1, 1)

    def maps(self) -> Float[Tensor, "ways 2 3"]:
        """From places in the result to places in the image: ``x, y`` from the centre, pixels."""
        generator = torch.Generator().manual_seed(_MAPS_SEED)
        drawn = torch.randn(self.ways, 6, generator=generator).clamp(-_WIDEST, _WIDEST)
        angle = drawn[:, 0] * math.radians(self.turn)
        wide, tall = 1.0 + self.stretch * drawn[:, 1], 1.0 + self.stretch * drawn[:, 2]
        slant, moves = self.slant * drawn[:, 3], self.move * drawn[:, 4:]
        cos, sin, none = angle.cos(), angle.sin(), torch.zeros_like(slant)
        turned = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
        shaped = torch.stack([wide, slant, none, tall], dim=1).view(-1, 2, 2)
        return torch.cat([turned @ shaped, moves[:, :, None]], dim=2)

    def apply(
        self,
        images: Shaped[Tensor, "batch *pixels"],
        draws: Int64[Tensor, "batch 1"],
    ) -> Shaped[Tensor, "batch *pixels"]:
        """The images under the maps that ``draws`` says; pixels keep their type.

        Shapes are ``[batch, channels, height, width]``.

        Raises:
            DataError: ``images`` has no height and width.
        """
        if images.ndim != 4:
            raise DataError(
                f"warp: got inputs of shape {tuple(images.shape)}, expected "
                "[batch, channels, height, width]"
            )
        floating = images if images.is_floating_point() else images.float()
        grid = _grids(self, images.shape[-2], images.shape[-1]).to(floating)[draws[:, 0]]
        warped = F.grid_sample(floating, grid, align_corners=False)
        if images.is_floating_point():
            return warped
        return warped.round_().clamp_(0, 255).to(images.dtype)


@lru_cache(maxsize=4)
def _grids(warp: Warp, height: int, width: int) -> Float[Tensor, "ways height width 2"]:
    """Where each pixel of the result comes from, by map, in the coordinates of ``grid_sample``."""
    half = torch.tensor([width, height]) / 2.0
    maps = warp.maps()
    linear = maps[:, :, :2] * half / half[:, None]
    theta = torch.cat([linear, maps[:, :, 2:] / half[:, None]], dim=2)
    return F.affine_grid(theta, [warp.ways, 1, height, width], align_corners=False)
