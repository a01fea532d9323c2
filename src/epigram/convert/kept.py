"""What is left of each scale's units, in the coordinates of the original network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from epigram.errors import ConfigError
from epigram.records import BoolArray, IntArray, PositionAxis, Structure


def position_key(axis: PositionAxis) -> str:
    """The name under which a position axis's scale is known."""
    return f"{axis.name}.positions"


class Kept:
    """Units and positions that are left, by the name of their scale.

    Args:
        structure: of the original network.
        units: how many units each scale had at the start.
    """

    def __init__(self, structure: Structure, units: Mapping[str, int]) -> None:
        self.structure = structure
        self.sizes = dict(units)
        self.index: dict[str, IntArray] = {name: np.arange(n) for name, n in units.items()}
        self._axes = {
            position_key(axis): axis
            for axis in structure.positions
            if position_key(axis) in self.sizes
        }

    def counts(self) -> dict[str, tuple[int, int]]:
        """Per scale: units left, units at the start."""
        return {name: (len(index), self.sizes[name]) for name, index in self.index.items()}

    def masks(self) -> dict[str, BoolArray]:
        """Per scale, which units are left, in dense coordinates."""
        return {name: self._mask(name) for name in self.index}

    def checked(self, keep: Mapping[str, BoolArray]) -> dict[str, BoolArray]:
        """One mask per scale over what it has now; positions of a removed unit go with it.

        Raises:
            ConfigError: an unknown name, a mask of the wrong length, or a scale left empty.
        """
        unknown = sorted(set(keep) - set(self.index))
        if unknown:
            raise ConfigError(f"keep: no scale {unknown[0]!r}; scales are {list(self.index)}")
        checked = {}
        for name, index in self.index.items():
            mask = np.array(keep.get(name, np.ones(len(index), bool)), bool)
            if mask.shape != index.shape:
                raise ConfigError(
                    f"keep[{name!r}]: got a mask of shape {mask.shape}, expected "
                    f"{index.shape}, one entry per unit that is left"
                )
            checked[name] = mask
        for key, axis in self._axes.items():
            if axis.group is not None and axis.group in checked:
                checked[key] &= checked[axis.group][self.owners(key)]
        for name, mask in checked.items():
            if mask.size and not mask.any():
                raise ConfigError(
                    f"keep[{name!r}]: all {mask.size} units would go; keep at least one"
                )
        return checked

    def shrink(self, keep: Mapping[str, BoolArray]) -> None:
        """Forget what checked masks drop."""
        self.index = {name: index[keep[name]] for name, index in self.index.items()}

    def owners(self, key: str) -> IntArray:
        """For each position that is left on an axis, its unit among those left in its group.

        Raises:
            KeyError: no position axis of that name belongs to a group that has a scale.
        """
        axis = self._axes.get(key)
        if axis is None or axis.index is None or axis.group not in self.index:
            raise KeyError(f"{key!r} is no position axis with owners")
        assert axis.group is not None
        return np.searchsorted(self.index[axis.group], axis.index[self.index[key]])

    def places(self, key: str) -> IntArray:
        """Where the positions that are left stand among the columns of the plain reader."""
        axis = self._axes[key]
        if axis.index is None or axis.group not in self.index:
            return self.index[key]
        columns = np.flatnonzero(self._mask(str(axis.group))[axis.index])
        return np.searchsorted(columns, self.index[key])

    def _mask(self, name: str) -> BoolArray:
        mask = np.zeros(self.sizes[name], bool)
        mask[self.index[name]] = True
        return mask
