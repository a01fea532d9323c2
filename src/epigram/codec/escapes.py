"""What does not fit into a table, and alphabets that learn without one: kernels (see ``native``)."""

from __future__ import annotations

from typing import Any

from epigram.codec.native import kernel, lean, new
from epigram.codec.range_coder import ERROR, TOTAL, account, code_even, code_table

LENGTHS, BLOCK_SHIFT = 32, 3


@kernel
def alphabet(stops: Any, passes: Any, nodes: int, table: Any) -> None:
    """Running sums of the frequencies of the symbols 0..nodes, from stops and passes at each node."""
    left, table[0] = TOTAL, 0
    for i in range(nodes):
        share = left * (2 * stops[i] + 1) // (2 * (stops[i] + passes[i]) + 2)
        share = max(1, min(share, left - (nodes - i)))
        left -= share
        table[i + 1] = TOTAL - left
    table[nodes + 1] = TOTAL


@kernel
def learned(
    s: Any, data: Any, bits: Any, stops: Any, passes: Any, nodes: int, values: Any, count: int
) -> None:
    """Symbols 0..nodes under an alphabet that learns them."""
    done, table = 0, new(nodes + 2)
    while done < count and not s[ERROR]:
        size, seen = min(max(1, done >> BLOCK_SHIFT), count - done), new(nodes + 1)
        alphabet(stops, passes, nodes, table)
        block = values[done : done + size]
        code_table(s, data, bits, table, nodes + 1, seen, block, size)
        for i in range(size):
            values[done + i] = block[i]
        beyond = size
        for i in range(nodes):
            beyond -= seen[i]
            stops[i] += seen[i]
            passes[i] += beyond
        done += size


@lean
def wide(s: Any, data: Any, bits: Any, width: int, values: Any, count: int) -> None:
    """Integers of ``width`` bits, equally likely, 16 bits at a time, high part first.

    In place, and refused before they are read where the stream cannot hold them.
    """
    for i in range(count):
        values[i] &= (1 << width) - 1
    while width > 0:
        size = min(width, 16)
        width -= size
        account(s, bits, count * (1.0 * size), count)
        most = (1 << size) - 1
        for i in range(count):
            if s[ERROR]:
                return
            part = code_even(s, data, 1 << size, values[i] >> width & most)
            values[i] = values[i] & ~(most << width) | part << width


@kernel
def tally(values: Any, count: int, size: int) -> Any:
    """How often each of 0..size-1 occurs."""
    out = new(size)
    for i in range(count):
        out[values[i]] += 1
    return out


@kernel
def escapes(
    s: Any, data: Any, bits: Any, values: Any, start: int, count: int, last: int, long: int
) -> None:
    """What is beyond a table: bit length of (half of what is beyond) + 1, then the bits below its top one."""
    lengths, beyond, place = new(long), new(long), 0
    for i in range(start, start + count):
        if values[i] >= last:
            beyond[place] = values[i] - last >> 1
            while beyond[place] + 1 >> lengths[place] + 1:
                lengths[place] += 1
            place += 1
    learned(s, data, bits, new(LENGTHS), new(LENGTHS), LENGTHS, lengths, long)
    counts = tally(lengths, long, LENGTHS + 1)
    for length in range(LENGTHS + 1):
        if not counts[length] or s[ERROR]:
            continue
        some, place = new(counts[length]), 0
        for i in range(long):
            if lengths[i] == length:
                some[place] = beyond[i] + 1 - (1 << length)
                place += 1
        wide(s, data, bits, length, some, counts[length])
        place = 0
        for i in range(long):
            if lengths[i] == length:
                beyond[i] = (1 << length) - 1 + some[place]
                place += 1
    place = 0
    for i in range(start, start + count):
        if values[i] >= last:
            values[i] = last + 2 * beyond[place] + (values[i] - last & 1)
            place += 1
