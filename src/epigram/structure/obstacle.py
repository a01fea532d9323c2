"""What stands in the way of a removal: the line that failed, the operation, a sentence with a remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from epigram.records import LeftWhole
from epigram.structure.grouping import owners
from epigram.structure.lines import user_frame

if TYPE_CHECKING:
    from epigram.records import Structure
    from epigram.structure.notes import Movement, Product
    from epigram.structure.propagate import Propagation

_BY_PLACE = frozenset(
    [
        "slice",
        "select",
        "narrow",
        "chunk",
        "split",
        "split_with_sizes",
        "tensor_split",
        "unsafe_split",
        "unsafe_chunk",
        "unbind",
        "roll",
        "rot90",
        "index",
        "index_select",
        "gather",
        "take_along_dim",
        "unfold",
        "diagonal",
        "repeat",
        "repeat_interleave",
        "tile",
        "pixel_shuffle",
        "pixel_unshuffle",
        "channel_shuffle",
        "native_channel_shuffle",
    ]
)
"""Data movements whose arguments count units; the others keep or regroup all of them."""


_SIZES = "; a size written as a number in forward is the usual cause: use x.flatten(1) or x.size(1)"
_OWN_SCALE = (
    "; the scale of the attention follows the width of a head, and with fewer places it is another: "
    "give it a number of its own, scaled_dot_product_attention(..., scale=self.scale)"
)
_ANY_SCALE = (
    "; it sums over these units, and a factor that follows their number (q.size(-1) ** -0.5) is the "
    "usual cause: make it a number of the module, self.scale"
)


@dataclass(frozen=True)
class Obstacle:
    """Why a trial failed.

    ``source`` is the line of code where it did, or "" if it ran. ``kind`` tells whether sizes do not fit,
    outputs have other values, or there is a new warning.
    """

    source: str
    reason: str
    kind: Literal["sizes", "values", "warning"] = "sizes"


def counts_units(propagation: Propagation) -> bool:
    """Does any operation take units by their place, as a literal would?"""
    return any(
        movement.operation in _BY_PLACE and propagation.space.varying(movement.labels)
        for movement in propagation.movements
    )


def from_error(error: Exception) -> Obstacle:
    """The innermost line of the user's own code that an error went through, and what it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = lines[0] if lines else type(error).__name__
    frame = user_frame(error)
    source = (frame.line or "") if frame is not None else ""
    written = f"forward says `{source[:80]}`: " if source else ""
    return Obstacle(source, f"{written}{message}")


def explained(
    group: str, obstacle: Obstacle, through: list[Movement], product: Product | None = None
) -> LeftWhole:
    """The group, which operation is in its way, and what to write instead.

    Args:
        group: its name.
        obstacle: why a trial failed.
        through: the data movements its units went through, in order.
        product: what sums over its units, if a product of two activations does.
    """
    failed = f"removing its units from a copy does not work ({obstacle.reason})"
    if obstacle.kind == "values" and product is not None:
        scale = _OWN_SCALE if product.scaled else _ANY_SCALE
        return LeftWhole(group, product.operation, failed + scale)
    at_fault = (
        [m for m in through if obstacle.source and m.source == obstacle.source]
        or [m for m in through if m.operation in _BY_PLACE]
        or through
    )
    operation = at_fault[-1].operation if at_fault else "forward"
    remedy = ""
    if at_fault and obstacle.kind == "sizes":
        remedy = _SIZES
    elif operation in _BY_PLACE and obstacle.kind == "values":
        remedy = "; it takes units by their place"
    return LeftWhole(group, operation, failed + remedy)


def products_by_group(structure: Structure, propagation: Propagation) -> dict[str, Product]:
    """Group -> the product that sums over its units; one that scales itself comes first."""
    group_of, space = owners(structure, propagation), propagation.space
    found: dict[str, Product] = {}
    for product in sorted(propagation.products, key=lambda p: not p.scaled):
        for label in space.classes(product.labels).tolist():
            if label in group_of:
                found.setdefault(group_of[label], product)
    return found


def movements_by_group(structure: Structure, propagation: Propagation) -> dict[str, list[Movement]]:
    """Group -> the data movements that its units went through, in order."""
    group_of, space = owners(structure, propagation), propagation.space
    found: dict[str, list[Movement]] = {group.name: [] for group in structure.groups}
    for movement in propagation.movements:
        classes = space.classes(movement.labels).tolist()
        for name in dict.fromkeys(group_of[c] for c in classes if c in group_of):
            found[name].append(movement)
    return found
