"""Alphabets whose probabilities are learned from the symbols already coded.

A symbol s of 0..n is a walk: at node 0, 1, 2, ... stop or go on; it stops at node s, and n is what
is left when no node stopped. Each node counts its stops and passes (Krichevsky-Trofimov estimate).
Tables are refreshed once per block, and blocks grow with what has been seen, so ten million symbols
need some 500 tables and are coded in whole arrays.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from epigram.codec.coder import TOTAL, Coder, Symbols

BLOCK_SHIFT = 3
LENGTHS = 32


class Alphabet:
    """Counts of ``nodes`` stop-or-go-on decisions; symbols are 0..nodes."""

    def __init__(self, nodes: int) -> None:
        self.stops = [0] * nodes
        self.passes = [0] * nodes

    def table(self) -> list[int]:
        """Frequencies of the symbols 0..nodes: positive integers that sum to 2**24."""
        left, out, after = TOTAL, [], len(self.stops)
        for stop, go in zip(self.stops, self.passes, strict=True):
            share = left * (2 * stop + 1) // (2 * (stop + go) + 2)
            if share > left - after:  # branches, since min and max cost more than all the rest
                share = left - after
            elif share < 1:
                share = 1
            out.append(share)
            left -= share
            after -= 1
        out.append(left)
        return out

    def fade(self, most: int) -> None:
        """Keep the proportions, but trust them no more than ``most`` observations a node."""
        for node, (stop, go) in enumerate(zip(self.stops, self.passes, strict=True)):
            if stop + go > most:
                self.stops[node] = stop * most // (stop + go)
                self.passes[node] = go * most // (stop + go)

    def learn(self, symbols: Symbols) -> None:
        """Count what was just coded."""
        seen = np.bincount(symbols, minlength=len(self.stops) + 1)
        beyond = len(symbols)
        for node, count in enumerate(seen[:-1].tolist()):
            if not beyond:
                break
            beyond -= count
            self.stops[node] += count
            self.passes[node] += beyond


def code_adaptive(coder: Coder, nodes: int, values: Symbols | None, count: int) -> Symbols:
    """``count`` symbols 0..nodes under an ``Alphabet`` that starts from nothing."""
    return code_with(coder, Alphabet(nodes), values, count)


def code_with(coder: Coder, alphabet: Alphabet, values: Symbols | None, count: int) -> Symbols:
    """``count`` symbols under ``alphabet``, which learns them."""
    out, done = np.zeros(count, dtype=np.int32), 0
    while done < count:
        size = min(max(1, done >> BLOCK_SHIFT), count - done)
        given = None if values is None else values[done : done + size]
        block = coder.table(alphabet.table(), given, size)
        out[done : done + size] = block
        alphabet.learn(block)
        done += size
    return out


def adaptive_bits(histogram: NDArray[np.int64]) -> float:
    """Code length of symbols with these counts, to within the cost of the blocks; no coding."""
    stops = histogram[:-1].tolist()
    beyond, bits = int(histogram.sum()), 0.0
    for stop in stops:
        if not beyond:
            break
        beyond -= stop
        bits += kt_bits(stop, beyond)
    return bits


def kt_bits(zeros: int, ones: int) -> float:
    """-log2 of the Krichevsky-Trofimov probability of a sequence with so many zeros and ones."""
    nats = (
        math.lgamma(zeros + ones + 1)
        - math.lgamma(zeros + 0.5)
        - math.lgamma(ones + 0.5)
        + math.log(math.pi)
    )
    return max(nats, 0.0) / math.log(2)


def uniform_bits(
    coder: Coder, width: int, values: NDArray[np.int64] | None, count: int
) -> NDArray[np.int64]:
    """``count`` integers of ``width`` bits each, equally likely, 16 bits at a time, high part first."""
    out = np.zeros(count, dtype=np.int64)
    while width:
        part = min(width, 16)
        width -= part
        given = None
        if values is not None:
            given = ((values >> width) & ((1 << part) - 1)).astype(np.int32)
        out |= coder.uniform(1 << part, given, count).astype(np.int64) << width
    return out
