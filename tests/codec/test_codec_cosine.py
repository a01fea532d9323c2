"""The integers of the cosine transform, which every reader has to have alike."""

from __future__ import annotations

import math
from zlib import crc32

import pytest

from epigram import cosine

CRCS = [
    "b45300bc", "0f3a60b5", "90e2ecbb", "014a9481", "fb0f0cfe", "e28721c2", "e5b1fb1b", "e987c4f1",
    "1180cb11", "578aedd8", "00c12f8c", "3875cd1f", "e3482068", "7b708e4b", "81a27ebd",
]  # fmt: skip


@pytest.mark.parametrize("places", range(2, cosine.MOST + 1))
def test_tables_are_these_integers(places: int) -> None:
    cosine.table.cache_clear()
    told = cosine.table(places).astype("<i4").tobytes()
    assert f"{crc32(told):08x}" == CRCS[places - 2]


def test_no_entry_is_so_near_to_a_half_that_a_cosine_could_round_it_elsewhere() -> None:
    nearest = min(
        abs(abs(size * math.cos(math.pi * (2 * i + 1) * k / (2 * n))) % 1 - 0.5)
        for n in range(2, cosine.MOST + 1)
        for k in range(n)
        for i in range(n)
        for size in [math.sqrt((2 if k else 1) / n) * 2**cosine.BITS]
    )
    assert nearest > 2e-3  # a library's cosine is wrong by 1e-15 or so
