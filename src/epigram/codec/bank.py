"""Tables that the tensors of a file share, one for each size of number.

A number whose typical magnitude is known (the bucket: a quarter of an octave) is coded under the table of
its bucket. Tables start from a geometric guess and learn from what they coded, in this tensor and
in those before it, so a tensor that comes late pays almost nothing for its model. How, is in ``tables``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from epigram.codec.coder import Coder
from epigram.codec.native import Kit
from epigram.codec.tables import BANK

ONE = 24
LARGEST = 147

Integers = NDArray[np.int64]


class Bank:
    """The tables of a file, all zero until they are first needed."""

    def __init__(self) -> None:
        self._tables: Any = None

    def fork(self) -> Bank:
        """One that knows as much and learns apart."""
        out = Bank()
        if self._tables is not None:
            out._tables = self._tables.copy()
        return out

    def array(self, kit: Kit) -> Any:
        """The tables, as its kernels take them."""
        if self._tables is None:
            self._tables = kit.zeros(BANK)
        return self._tables

    def signed(
        self, coder: Coder, context: int, bucket: int, values: Integers | None, count: int
    ) -> Integers:
        """Integers of either sign and of a typical magnitude."""
        out = coder.kit.zeros(count) if values is None else coder.kit.array(values)
        bank = self.array(coder.kit)
        coder.run(coder.kit.signed, 6 * count, bank, context, bucket, out, 0, count)
        return np.asarray(out, dtype=np.int64)
