"""Alphabets whose probabilities are learned from the symbols already coded.

A symbol s of 0..n is a walk: at node 0, 1, 2, ... stop or go on; it stops at node s, and n is what
is left when no node stopped. Each node counts its stops and passes (Krichevsky-Trofimov estimate).
Tables are refreshed once per block, and blocks grow with what has been seen, so ten million symbols
need some 500 tables and are coded in whole arrays.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from epigram.codec.coder import Coder, Symbols
from epigram.codec.escapes import alphabet as running_sums


class Alphabet:
    """Counts of ``nodes`` stop-or-go-on decisions; symbols are 0..nodes."""

    def __init__(self, nodes: int) -> None:
        self.stops = [0] * nodes
        self.passes = [0] * nodes

    def table(self) -> list[int]:
        """Frequencies of the symbols 0..nodes: positive integers that sum to 2**24."""
        nodes = len(self.stops)
        sums = [0] * (nodes + 2)
        running_sums(self.stops, self.passes, nodes, sums)
        return [after - before for before, after in itertools.pairwise(sums)]

    def fade(self, most: int) -> None:
        """Keep the proportions, but trust them no more than ``most`` observations a node."""
        for node, (stop, go) in enumerate(zip(self.stops, self.passes, strict=True)):
            if stop + go > most:
                self.stops[node] = stop * most // (stop + go)
                self.passes[node] = go * most // (stop + go)


def code_adaptive(coder: Coder, nodes: int, values: Symbols | None, count: int) -> Symbols:
    """``count`` symbols 0..nodes under an ``Alphabet`` that starts from nothing."""
    return code_with(coder, Alphabet(nodes), values, count)


def code_with(coder: Coder, alphabet: Alphabet, values: Symbols | None, count: int) -> Symbols:
    """``count`` symbols under ``alphabet``, which learns them."""
    kit = coder.kit
    stops, passes = kit.array(alphabet.stops), kit.array(alphabet.passes)
    out = kit.zeros(count) if values is None else kit.array(values)
    coder.run(kit.learned, count, stops, passes, len(stops), out, count)
    alphabet.stops, alphabet.passes = list(map(int, stops)), list(map(int, passes))
    return np.asarray(out, dtype=np.int32)


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
    coder.room_for(width * count)
    out = coder.kit.zeros(count) if values is None else coder.kit.array(values)
    coder.run(coder.kit.wide, 4 * count, width, out, count)
    return np.asarray(out, dtype=np.int64)
