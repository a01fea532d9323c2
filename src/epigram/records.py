"""Frozen records that stages hand to each other. numpy only: a file can be read without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from epigram import cosine
from epigram.errors import ConfigError

IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
SlicePlan: TypeAlias = Mapping[str, Mapping[int, IntArray]]
"""Tensor name -> axis -> the indices of that axis that stay, ascending."""

Role: TypeAlias = Literal["produces", "reads", "carries", "consumed"]

NARROW = " (narrow)"
"""What the path of a number ends in whose module has to become narrow with it."""


# --- structure: which units fall together -----------------------------------------------------


@dataclass(frozen=True)
class Member:
    """One tensor axis on which the units of a group live.

    ``index[u]`` are the indices of that axis that belong to unit ``u`` (shape ``[units, k]``; k > 1
    where a flattened map gives a channel several columns). ``produces``: rows that compute the unit
    (and their biases). ``reads``: columns that read it, where a scale acts. ``carries``: per-channel
    tensors it passes through (normalisation, depthwise filters). ``consumed``: rows (among those that
    produce or carry) whose zeroing takes the unit out of what depends on it without being a layer: a
    product of two activations that sums over it (places of queries and keys), the statistics of a
    normalisation that goes on counting it.
    """

    tensor: str
    axis: int
    role: Role
    index: IntArray


@dataclass(frozen=True)
class Group:
    """Units that are interchangeable and removable one by one: one scale, one entry per unit."""

    name: str
    units: int
    members: tuple[Member, ...]


@dataclass(frozen=True)
class PositionAxis:
    """A reader's input axis finer than units: pixels of an MLP, positions behind a flatten.

    ``group`` names the group whose units own the positions (``index[p]`` is position p's unit), or is
    None where the positions are the network's own input and cannot be removed from the plain module.
    """

    name: str
    tensor: str
    axis: int
    size: int
    group: str | None
    index: IntArray | None


@dataclass(frozen=True)
class LeftWhole:
    """Units that could be imagined to go but are left, and why."""

    where: str
    operation: str
    reason: str


@dataclass(frozen=True)
class Attribute:
    """A whole number that a module keeps beside its tensors (``num_heads``) and that follows groups.

    Its value is ``base`` plus, for each ``(group, count)`` of ``per_unit``, so many for every unit of
    the group that is left. ``narrow``: its module's ``forward`` takes the width of a unit from that of its
    input, and is read another way as soon as units are gone.
    """

    module: str
    name: str
    base: int
    per_unit: tuple[tuple[str, int], ...]
    narrow: bool = False

    @property
    def path(self) -> str:
        """The qualified name, ``encoder.0.attention.num_heads``; ``num_heads (narrow)`` where it is."""
        name = self.name + NARROW * self.narrow
        return f"{self.module}.{name}" if self.module else name

    def value(self, units: Mapping[str, int]) -> int:
        """What it has to be where ``units`` of each group are left."""
        return self.base + sum(count * units[group] for group, count in self.per_unit)


@dataclass(frozen=True)
class Structure:
    """What ``structure.analyse`` finds in a network."""

    groups: tuple[Group, ...]
    positions: tuple[PositionAxis, ...] = ()
    left_whole: tuple[LeftWhole, ...] = ()
    attributes: tuple[Attribute, ...] = field(default=(), kw_only=True)

    def group(self, name: str) -> Group:
        """The group called ``name``.

        Raises:
            KeyError: no such group; the message lists those there are.
        """
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(f"no group {name!r}; groups are {[g.name for g in self.groups]}")


# --- the file: what is written ----------------------------------------------------------------


@dataclass(frozen=True)
class CodedTensor:
    """One tensor of the small network as integers: value = step_size * symbols.

    ``cosine``: the symbols of its last two axes are coefficients of a cosine transform (``epigram.cosine``).

    ``shape`` is the small network's; ``dense_shape`` the original's. ``live`` marks the positions of
    axis ``live_axis`` that are not identically zero; dead ones cost no symbols (their symbols are 0).
    """

    name: str
    dense_shape: tuple[int, ...]
    symbols: NDArray[np.int32]
    step_size: float
    live: BoolArray | None = None
    live_axis: int = 1
    cosine: bool = field(default=False, kw_only=True)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.symbols.shape

    def values(self) -> NDArray[np.float32]:
        """The decoded tensor, exactly as every reader gets it."""
        if self.cosine:
            numbers = cosine.kernels(self.symbols).astype(np.float64)
            return (numbers * (self.step_size * cosine.UNIT)).astype(np.float32)
        return (self.symbols.astype(np.float64) * self.step_size).astype(np.float32)


@dataclass(frozen=True)
class RawTensor:
    """One tensor stored as it is: buffers and whatever does not tolerate quantisation."""

    name: str
    dense_shape: tuple[int, ...]
    values_: NDArray[np.generic]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values_.shape

    def values(self) -> NDArray[np.generic]:
        """The tensor itself."""
        return self.values_


@dataclass(frozen=True)
class GroupEdit:
    """Which units of a group are left, in the original's coordinates."""

    name: str
    kept: BoolArray


@dataclass(frozen=True)
class FileContents:
    """Everything a file says; ``edits`` and ``metadata`` are written in the named profile only.

    ``numbers``: those that modules keep beside their tensors (``encoder.0.attention.num_heads``) and that have
    followed units.
    """

    tensors: tuple[CodedTensor | RawTensor, ...]
    edits: tuple[GroupEdit, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)


# --- the floor --------------------------------------------------------------------------------

_FLOOR = re.compile(r"^\s*([A-Za-z_][\w.-]*)\s*(>=|<=)\s*([-+0-9.eE]+)\s*(%?)\s*$")


@dataclass(frozen=True)
class Floor:
    """The least acceptable value of a metric: ``accuracy>=0.982``, ``nll<=0.1``.

    Example:
        >>> Floor.parse("accuracy>=98.2%")
        Floor(metric='accuracy', value=0.982, larger_is_better=True)
        >>> Floor.parse("nll<=0.1").margin(0.08)
        0.02
    """

    metric: str
    value: float
    larger_is_better: bool = True

    @classmethod
    def parse(cls, text: str | Floor) -> Floor:
        """Read ``metric>=value`` or ``metric<=value``; a per cent sign divides by 100.

        Raises:
            ConfigError: the text is not of that form.
        """
        if isinstance(text, Floor):
            return text
        match = _FLOOR.match(text)
        try:
            if match is None:
                raise ValueError
            metric, relation, number, percent = match.groups()
            value = float(number) / (100.0 if percent else 1.0)
        except ValueError:
            raise ConfigError(
                f"floor: got {text!r}, expected 'metric>=value' or 'metric<=value', "
                "for example 'accuracy>=0.982'"
            ) from None
        return cls(metric, value, relation == ">=")

    def margin(self, value: float) -> float:
        """How far ``value`` is on the good side; negative = the floor is missed."""
        gap = value - self.value if self.larger_is_better else self.value - value
        return round(gap, 12)

    def met(self, value: float) -> bool:
        """Does ``value`` meet the floor? NaN never does."""
        return self.margin(value) >= 0.0

    def __str__(self) -> str:
        return f"{self.metric}{'>=' if self.larger_is_better else '<='}{self.value:g}"
