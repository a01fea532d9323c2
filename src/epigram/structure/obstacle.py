"""What stands in the way of a removal: the line that failed, the operation, a sentence with a remedy."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from epigram.records import LeftWhole
from epigram.structure.grouping import owners

if TYPE_CHECKING:
    from epigram.records import Structure
    from epigram.structure.propagate import Movement, Propagation

_OURS = (str(Path(__file__).parent), str(Path(torch.__file__).parent))
_INSTALLED = str(Path(torch.__file__).parent.parent)
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


@dataclass(frozen=True)
class Obstacle:
    """Why a trial failed: the source line where it did, or "" if only values differ."""

    source: str
    reason: str


def counts_units(propagation: Propagation) -> bool:
    """Does any operation take units by their place, as a literal would?"""
    return any(
        movement.operation in _BY_PLACE and propagation.space.varying(movement.labels)
        for movement in propagation.movements
    )


def from_error(error: Exception) -> Obstacle:
    """The innermost line of the user's own code that an error went through, and what it says."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = lines[0] if lines else type(error).__name__
    users = [frame for frame in frames if not frame.filename.startswith(_OURS)]
    users = [frame for frame in users if not frame.filename.startswith(_INSTALLED)] or users
    source = (users[-1].line or "") if users else ""
    written = f"forward says `{source[:80]}`: " if source else ""
    return Obstacle(source, f"{written}{message}")


def explained(group: str, obstacle: Obstacle, through: list[Movement]) -> LeftWhole:
    """The group, which of the data movements it went through is in its way, and what to write instead."""
    at_fault = (
        [m for m in through if obstacle.source and m.source == obstacle.source]
        or [m for m in through if m.operation in _BY_PLACE]
        or through
    )
    operation = at_fault[-1].operation if at_fault else "forward"
    remedy = (
        "; a size written as a number in forward is the usual cause: use x.flatten(1) or x.size(1)"
        if at_fault
        else ""
    )
    reason = f"removing its units from a copy does not work ({obstacle.reason}){remedy}"
    return LeftWhole(group, operation, reason)


def movements_by_group(structure: Structure, propagation: Propagation) -> dict[str, list[Movement]]:
    """Group -> the data movements that its units went through, in order."""
    group_of, space = owners(structure, propagation), propagation.space
    found: dict[str, list[Movement]] = {group.name: [] for group in structure.groups}
    for movement in propagation.movements:
        classes = space.classes(movement.labels).tolist()
        for name in dict.fromkeys(group_of[c] for c in classes if c in group_of):
            found[name].append(movement)
    return found
