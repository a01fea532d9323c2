"""The GIF writer against Pillow's decoder, which shares no code with the container."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from epigram.report.gif import encode

PALETTE = [c for i in range(40) for c in (5 * i, 255 - 5 * i, (i * 37) % 256)]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 4),
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
def test_every_frame_comes_back(
    count: int, height: int, width: int, drift: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    frames = [rng.integers(0, 40, (height, width), dtype=np.uint8)]
    for _ in range(count - 1):
        fresh = rng.integers(0, 40, (height, width), dtype=np.uint8)
        frames.append(np.where(rng.random((height, width)) < drift, fresh, frames[-1]))
    content = encode(frames, PALETTE, delays_ms=[100] * count)
    colours = np.array(PALETTE, dtype=np.uint8).reshape(-1, 3)
    with Image.open(io.BytesIO(content)) as movie:
        assert movie.n_frames == count
        for place, frame in enumerate(frames):
            movie.seek(place)
            np.testing.assert_array_equal(np.asarray(movie.convert("RGB")), colours[frame])


def test_plays_for_ever_at_its_pace() -> None:
    frames = [np.full((4, 4), i, dtype=np.uint8) for i in range(3)]
    with Image.open(io.BytesIO(encode(frames, PALETTE, delays_ms=[90, 200, 2500]))) as movie:
        assert movie.info["loop"] == 0
        pace = []
        for place in range(3):
            movie.seek(place)
            pace.append(movie.info["duration"])
    assert pace == [90, 200, 2500]


def test_what_does_not_change_costs_little() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 12, (100, 300), dtype=np.uint8)
    once = len(encode([first], PALETTE, delays_ms=[100]))
    ten_times = len(encode([first] * 10, PALETTE, delays_ms=[100] * 10))
    assert ten_times < 1.4 * once


def test_delays_must_fit() -> None:
    with pytest.raises(ValueError, match="shorter"):
        encode([np.zeros((2, 2), dtype=np.uint8)] * 2, PALETTE, delays_ms=[100])
