"""What a propagation writes down: uses of tensors, movements of data, products that sum over units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from epigram.records import BoolArray, Role


@dataclass
class Use:
    """The labels along one axis of a tensor of the model, and the part it plays for them.

    ``single`` tells that each index of the axis reads one number per example: an input of a linear
    layer, or a channel of a map of one position.
    """

    tensor: str
    axis: int
    role: Role
    operation: str
    labels: Tensor
    single: bool = False
    consumed: BoolArray | None = None


@dataclass
class Movement:
    """The labels that went through one data movement, to name it should it stand in the way."""

    operation: str
    where: str
    source: str
    labels: Tensor = field(repr=False)


@dataclass
class Product:
    """A product of two activations that sums over these labels (the width of a head).

    ``scaled``: by a factor that it takes from that width itself. ``single``: there is one position only
    on either side of it.
    """

    operation: str
    scaled: bool
    labels: Tensor = field(repr=False)
    single: bool = False
