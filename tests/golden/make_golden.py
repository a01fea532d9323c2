"""Write the golden files of the current format version; never rewrite those of an older one.

python tests/golden/make_golden.py
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from epigram import codec
from epigram.records import CodedTensor, FileContents, GroupEdit, RawTensor

HERE = Path(__file__).parent
VERSION = 2
PROFILES: tuple[Literal["bare", "named"], ...] = ("bare", "named")


def _pattern(*shape: int, spread: int = 5) -> np.ndarray:
    """Integers around zero by a rule that needs no random numbers."""
    places = np.arange(np.prod(shape))
    values = (places * places * 7 + places * 3) % (2 * spread + 1) - spread
    return (np.where(places % 3 == 0, 0, values)).astype(np.int32).reshape(shape)


def contents() -> FileContents:
    """A little of everything: coded, dead positions, huge symbols, zeros, buffers."""
    live = np.arange(18) % 3 != 1
    reader = _pattern(4, 18, spread=3)
    reader[:, ~live] = 0
    huge = np.array([-(2**31), 2**31 - 1, 0, 40, -21], dtype=np.int32)
    return FileContents(
        (
            CodedTensor("conv1.weight", (6, 1, 3, 3), _pattern(2, 1, 3, 3), 0.0625),
            CodedTensor("conv1.bias", (6,), _pattern(2), 0.03125),
            RawTensor("norm.running_var", (6,), np.array([0.1, 2.5], dtype=np.float32)),
            RawTensor("norm.num_batches_tracked", (), np.array(1234, dtype=np.int64)),
            CodedTensor("fc1.weight", (9, 54), reader, 0.109375, live, 1),
            CodedTensor("fc1.bias", (9,), np.zeros(4, dtype=np.int32), 0.25),
            CodedTensor("fc2.weight", (5, 9), _pattern(5, 4, spread=90), 2.0**-20),
            CodedTensor("fc2.bias", (5,), huge, 1.875),
        ),
        (
            GroupEdit("conv1", np.array([0, 1, 0, 0, 1, 0], dtype=bool)),
            GroupEdit("fc1", np.arange(9) % 2 == 1),
        ),
        {"recipe": "golden", "note": "Dvořák's 9th"},
    )


def with_numbers() -> FileContents:
    """The same, and numbers that modules keep beside their tensors."""
    numbers = {"block.1.heads (narrow)": 3, "block.1.sizes[0]": 70_000, "block.0.heads": 0}
    return replace(contents(), numbers=numbers)


def with_coefficients() -> FileContents:
    """The same, the kernels by their cosine transform, and others as they are."""
    tensors = contents().tensors
    first = replace(tensors[0], cosine=True)
    other = CodedTensor("conv2.weight", (3, 6, 5, 4), _pattern(3, 2, 5, 4), 0.5)
    again = replace(other, name="conv3.weight", cosine=True)
    return replace(contents(), tensors=(first, *tensors[1:], other, again))


def path(profile: str, beside: str = "") -> Path:
    """Where the golden file of a profile is; ``beside``: ``"numbers"`` or ``"cosine"``."""
    return HERE / f"v{VERSION}-{profile}{'-' * bool(beside)}{beside}.epg"


if __name__ == "__main__":
    for profile in PROFILES:
        path(profile).write_bytes(codec.encode(contents(), profile=profile))
        path(profile, "numbers").write_bytes(codec.encode(with_numbers(), profile=profile))
        path(profile, "cosine").write_bytes(codec.encode(with_coefficients(), profile=profile))
