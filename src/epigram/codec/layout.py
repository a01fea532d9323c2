"""What is in the stream, in order; the same description for writing and for reading.

heads (kind, step or dtype) | numbers | names, dense shapes, edits, metadata, or a fingerprint | small shapes
| per tensor: live positions, model, symbols, or raw bytes
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from epigram.codec.coder import Coder, Flag
from epigram.codec.container import VERSION, Profile
from epigram.codec.first_symbols import FirstStates, code_first_symbols
from epigram.codec.limits import Limits
from epigram.codec.masks import BoolArray, MaskBudget, code_mask, mask_bits, period_flags
from epigram.codec.naming import code_edits, code_metadata, code_names, code_numbers
from epigram.codec.native import fit_for
from epigram.codec.raw import DTYPES, code_raw, dtype_code
from epigram.codec.shapes import (
    Shape,
    ShapeStates,
    check_dense,
    check_elements,
    code_fingerprint,
    code_shape,
)
from epigram.codec.steps import MANTISSA_BITS, step_code, step_value
from epigram.codec.symbols import TRIED, SymbolStates, tensor_bits
from epigram.codec.text import TextStates
from epigram.cosine import by_frequency, from_frequency, has_kernels
from epigram.errors import FormatError
from epigram.records import CodedTensor, FileContents, GroupEdit, RawTensor

AnyTensor = CodedTensor | RawTensor

_USUAL_EXPONENT = -5


@dataclass(frozen=True)
class Head:
    """What is known of a tensor before its shape: a step size, or a dtype and no step."""

    step_size: float | None
    dtype: np.dtype[np.generic]


def code_heads(coder: Coder, contents: FileContents | None, limits: Limits) -> list[Head]:
    """How many tensors there are, and the head of each."""
    coder.section("structure")
    tensors = None if contents is None else contents.tensors
    count = coder.natural([Flag() for _ in range(8)], None if tensors is None else len(tensors))
    limits.check("tensors", count, "max_tensors")
    raw, exponents, last = Flag(zeros=1), [Flag() for _ in range(8)], _USUAL_EXPONENT
    heads = []
    for place in range(count):
        tensor = None if tensors is None else tensors[place]
        coder.section("structure")
        is_raw = coder.flag(raw, None if tensor is None else int(isinstance(tensor, RawTensor)))
        coder.section("scales")
        if is_raw:
            given = (
                dtype_code(tensor.values_.dtype, tensor.name)
                if isinstance(tensor, RawTensor)
                else None
            )
            heads.append(Head(None, np.dtype(DTYPES[coder.below(len(DTYPES), given)])))
            continue
        pair = step_code(tensor.step_size) if isinstance(tensor, CodedTensor) else None
        last += coder.signed(exponents, None if pair is None else pair[0] - last)
        mantissa = coder.below(1 << MANTISSA_BITS, None if pair is None else pair[1])
        heads.append(Head(step_value(last, mantissa), np.dtype(np.float32)))
    return heads


def code_presence(
    coder: Coder,
    held: int,
    present: Sequence[bool] | None,
    dense: Mapping[str, Shape] | None,
    budget: MaskBudget,
) -> dict[str, Shape]:
    """Which of the original's tensors are in a bare file: all, or as a mask says.

    A writer gives ``present`` (and ``dense`` of the held ones), a reader ``dense`` of all.
    """
    coder.section("structure")
    some_absent = None if present is None else int(not all(present))
    names = [] if dense is None else list(dense)
    if coder.flag(Flag(zeros=3), some_absent):
        total = coder.natural([Flag() for _ in range(8)], None if present is None else len(present))
        if present is None and total != len(names):
            raise FormatError(f"dense_shapes: got {len(names)} tensors, expected {total}")
        mask = None if present is None else np.array(present, dtype=np.bool_)
        mask = code_mask(coder, period_flags(), mask, budget.reserve(total))
        if present is None:
            names = [name for name, there in zip(names, mask.tolist(), strict=True) if there]
    if len(names) != held:
        raise FormatError(
            f"dense_shapes: got {len(names)} tensors ({', '.join(names)}), but the file holds {held}; "
            "pass the class the file was made from, and only tensors that are in the file"
        )
    assert dense is not None
    return {name: tuple(dense[name]) for name in names}


def code_contents(
    coder: Coder,
    *,
    profile: Profile,
    contents: FileContents | None,
    dense: Mapping[str, Shape] | None,
    present: Sequence[bool] | None,
    limits: Limits,
    version: int = VERSION,
    numbers: bool = False,
    cosine: bool = False,
    quick: bool = False,
) -> FileContents:
    """The whole stream.

    ``version`` is the format's; ``numbers`` says whether some of modules are held, ``cosine`` whether symbols may be
    coefficients; ``quick`` takes the scaled tables untried.
    """
    heads = code_heads(coder, contents, limits)
    text, budget = TextStates(limits), MaskBudget(limits)
    held = code_numbers(coder, contents, text, limits) if numbers else {}
    edits: tuple[GroupEdit, ...] = ()
    metadata: dict[str, str] = {}
    if profile == "named":
        dense = code_names(coder, len(heads), contents, text, limits)
        edits = code_edits(coder, contents, text, limits, budget)
        metadata = code_metadata(coder, contents, text, limits)
    else:
        dense = code_presence(coder, len(heads), present, dense, budget)
        code_fingerprint(coder, dense, writing=contents is not None)
    check_dense(dense)
    coder.section("structure")
    states, small = ShapeStates(), {}
    for place, (name, shape) in enumerate(dense.items()):
        given = None if contents is None else contents.tensors[place].shape
        small[name] = code_shape(coder, states, name, shape, given)
    check_elements(limits, small)
    tries = contents is not None and not quick and _told(contents) <= TRIED
    coder.use(fit_for(_work(heads, small)))
    body = Body(coder, budget, version, tries=tries, cosine=cosine)
    tensors = tuple(
        body.code(
            head,
            name,
            dense[name],
            small[name],
            None if contents is None else contents.tensors[place],
        )
        for place, (head, name) in enumerate(zip(heads, dense, strict=True))
    )
    return FileContents(tensors, edits, metadata, held)


def _work(heads: Sequence[Head], small: Mapping[str, Shape]) -> int:
    """About how much is to be coded, a symbol under mixed contexts counting as eight."""
    sizes = zip(heads, small.values(), strict=True)
    count = sum(math.prod(shape) for head, shape in sizes if head.step_size is not None)
    return 8 * count if count <= TRIED else count


def _told(contents: FileContents) -> int:
    """How many symbols are coded; those at dead positions are not."""
    sizes = (
        t.symbols.size
        if t.live is None
        else t.symbols.size // max(len(t.live), 1) * int(t.live.sum())
        for t in contents.tensors
        if isinstance(t, CodedTensor)
    )
    return sum(sizes)


class Body:
    """The values of the tensors, one after the other."""

    def __init__(
        self, coder: Coder, budget: MaskBudget, version: int, *, tries: bool, cosine: bool
    ) -> None:
        self._coder = coder
        self._transformed = Flag() if cosine else None
        self._budget, self._periods = budget, period_flags()
        self._first = FirstStates() if version == 1 else None
        self._symbols = SymbolStates(tries=tries, kit=coder.kit)
        self._some_dead, self._other_axis, self._implied = Flag(zeros=1), Flag(zeros=1), Flag()

    def code(
        self, head: Head, name: str, dense: Shape, shape: Shape, tensor: AnyTensor | None
    ) -> AnyTensor:
        """One tensor."""
        if head.step_size is None:
            self._coder.section(f"raw:{name}")
            given = tensor.values_ if isinstance(tensor, RawTensor) else None
            return RawTensor(name, dense, code_raw(self._coder, name, head.dtype, given, shape))
        coded = tensor if isinstance(tensor, CodedTensor) else None
        return self._code_symbols(head.step_size, name, dense, shape, coded)

    def _code_symbols(
        self, step: float, name: str, dense: Shape, shape: Shape, tensor: CodedTensor | None
    ) -> CodedTensor:
        axis, live, implied = self._code_live(shape, tensor)
        kept = list(shape)
        if live is not None:
            kept[axis] = int(live.sum())
        given = None
        if tensor is not None:
            given = tensor.symbols if live is None else np.compress(live, tensor.symbols, axis)
        label = f"bias:{name}" if len(shape) < 2 else f"symbols:{name}"
        is_cosine = self._code_transformed(shape, tensor)
        told = tuple(kept)
        if is_cosine:
            told = (kept[0], kept[2] * kept[3], kept[1])
            given = None if given is None else by_frequency(given)
        flat = None if given is None else given.ravel()
        if self._first is not None:
            packed = code_first_symbols(self._coder, self._first, label, flat, math.prod(kept))
        else:
            packed = self._symbols.code(self._coder, label, flat, told)
        packed = from_frequency(packed, kept) if is_cosine else packed.reshape(kept)
        if implied:
            live = _alive(packed, axis)
        elif live is not None:
            whole = np.zeros(shape, dtype=np.int32)
            whole[(slice(None),) * axis + (live,)] = packed
            packed = whole
        return CodedTensor(name, dense, packed, step, live, axis, cosine=is_cosine)

    def _code_transformed(self, shape: Shape, tensor: CodedTensor | None) -> bool:
        """Are the symbols coefficients?"""
        if self._transformed is None or not has_kernels(shape):
            return False
        self._coder.section("scales")
        given = None if tensor is None else int(tensor.cosine)
        return bool(self._coder.flag(self._transformed, given))

    def _code_live(
        self, shape: Shape, tensor: CodedTensor | None
    ) -> tuple[int, BoolArray | None, bool]:
        """Axis; the mask where it is written; whether it is implied by the symbols instead."""
        if not shape:
            return 1, None, False
        self._coder.section("live")
        given = None if tensor is None else int(tensor.live is not None)
        if not self._coder.flag(self._some_dead, given):
            return 1, None, False
        axis = 1
        mask = None if tensor is None else tensor.live
        moved = None if tensor is None else int(tensor.live_axis != 1)
        if len(shape) < 2 or self._coder.flag(self._other_axis, moved):
            axis = self._coder.below(len(shape), None if tensor is None else tensor.live_axis)
        choice = None if tensor is None else int(self._better_implied(tensor))
        if self._coder.flag(self._implied, choice):
            return axis, None, True
        size = self._budget.reserve(shape[axis])
        return axis, code_mask(self._coder, self._periods, mask, size), False

    def _better_implied(self, tensor: CodedTensor) -> bool:
        """Is it cheaper to code the zeros at dead positions than to say which are dead?"""
        live, axis = tensor.live, tensor.live_axis
        assert live is not None
        if not np.array_equal(live, _alive(tensor.symbols, axis)):
            return False
        whole, packed = tensor.symbols, np.compress(live, tensor.symbols, axis)
        if tensor.cosine:
            whole, packed = by_frequency(whole), by_frequency(packed)
        cost = self._symbols.bits if self._symbols.tries else _alone
        return cost(whole, whole.shape) < cost(packed, packed.shape) + mask_bits(live)


def _alive(symbols: np.ndarray[tuple[int, ...], np.dtype[np.int32]], axis: int) -> BoolArray:
    others = tuple(a for a in range(symbols.ndim) if a != axis)
    alive: BoolArray = np.asarray((symbols != 0).any(axis=others))
    return alive


def _alone(symbols: np.ndarray[tuple[int, ...], np.dtype[np.int32]], shape: Shape) -> float:
    del shape
    return tensor_bits(symbols)
