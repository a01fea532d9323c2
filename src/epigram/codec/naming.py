"""What a file says in words: names, which units are left, metadata, and numbers that modules keep."""

from __future__ import annotations

from epigram.codec.coder import Coder, Flag
from epigram.codec.limits import Limits
from epigram.codec.masks import MaskBudget, code_mask, period_flags
from epigram.codec.native import fit_for
from epigram.codec.shapes import Shape
from epigram.codec.text import TextStates
from epigram.errors import FormatError
from epigram.records import FileContents, GroupEdit


def code_numbers(
    coder: Coder, contents: FileContents | None, text: TextStates, limits: Limits
) -> dict[str, int]:
    """Numbers that modules keep beside their tensors, by path, sorted."""
    coder.section("names")
    counts, values = [Flag() for _ in range(8)], [Flag() for _ in range(12)]
    given = None if contents is None else sorted(contents.numbers.items())
    count = coder.natural(counts, None if given is None else len(given))
    out: dict[str, int] = {}
    for place in range(limits.check("numbers", count, "max_tensors")):
        path, value = (None, None) if given is None else given[place]
        read = text.code(coder, path)
        if read in out:
            raise FormatError(f"{read}: got two numbers of this name")
        out[read] = coder.natural(values, value)
    return out


def code_names(
    coder: Coder, count: int, contents: FileContents | None, text: TextStates, limits: Limits
) -> dict[str, Shape]:
    """Names and dense shapes of a named file."""
    ranks, sizes = [Flag() for _ in range(4)], [Flag() for _ in range(16)]
    dense: dict[str, Shape] = {}
    for place in range(count):
        tensor = None if contents is None else contents.tensors[place]
        coder.section("names")
        name = text.code(coder, None if tensor is None else tensor.name)
        coder.section("structure")
        rank = coder.natural(ranks, None if tensor is None else len(tensor.dense_shape))
        limits.check(f"{name}: axes", rank, "max_rank")
        if name in dense:
            raise FormatError(f"{name}: got two tensors of this name")
        dense[name] = tuple(
            coder.natural(sizes, None if tensor is None else tensor.dense_shape[axis])
            for axis in range(rank)
        )
    return dense


def code_edits(
    coder: Coder,
    contents: FileContents | None,
    text: TextStates,
    limits: Limits,
    budget: MaskBudget,
) -> tuple[GroupEdit, ...]:
    """Which units of which group are left."""
    coder.section("structure")
    periods, counts, edits = period_flags(), [Flag() for _ in range(12)], []
    count = coder.natural(counts, None if contents is None else len(contents.edits))
    for place in range(limits.check("groups", count, "max_tensors")):
        edit = None if contents is None else contents.edits[place]
        coder.section("names")
        name = text.code(coder, None if edit is None else edit.name)
        coder.section("structure")
        units = coder.natural(counts, None if edit is None else len(edit.kept))
        kept = None if edit is None else edit.kept
        coder.use(fit_for(budget.reserve(units)))
        edits.append(GroupEdit(name, code_mask(coder, periods, kept, units)))
    return tuple(edits)


def code_metadata(
    coder: Coder, contents: FileContents | None, text: TextStates, limits: Limits
) -> dict[str, str]:
    """Free text by key, sorted."""
    coder.section("names")
    given = None if contents is None else sorted(contents.metadata.items())
    count = coder.natural([Flag() for _ in range(8)], None if given is None else len(given))
    out: dict[str, str] = {}
    for place in range(limits.check("metadata", count, "max_tensors")):
        key, value = (None, None) if given is None else given[place]
        read = text.code(coder, key)
        out[read] = text.code(coder, value)
    return out
