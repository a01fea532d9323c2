"""Shifts and flips against a slow and obvious loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from epigram.data import Augment
from epigram.errors import ConfigError, DataError


def moved(image: np.ndarray, down: int, right: int, mirror: int, fill: str) -> np.ndarray:
    """One pixel at a time."""
    channels, height, width = image.shape
    out = np.zeros_like(image)
    for c, y, x in np.ndindex(channels, height, width):
        from_y, from_x = y - down, x - right
        inside = 0 <= from_y < height and 0 <= from_x < width
        if not inside and fill == "zero":
            continue
        if fill == "reflect":
            from_y, from_x = reflected(from_y, height), reflected(from_x, width)
        from_y, from_x = min(max(from_y, 0), height - 1), min(max(from_x, 0), width - 1)
        out[c, y, x] = image[c, from_y, width - 1 - from_x if mirror else from_x]
    return out


def reflected(place: int, length: int) -> int:
    """-1 is 1, and length is length - 2."""
    place = abs(place)
    return 2 * (length - 1) - place if place >= length else place


@given(
    sizes=st.tuples(*[st.integers(1, 4)] * 2, *[st.integers(1, 6)] * 2),
    shift=st.integers(0, 3),
    flip=st.booleans(),
    fill=st.sampled_from(["zero", "edge", "reflect"]),
    dtype=st.sampled_from([torch.uint8, torch.float32]),
    seed=st.integers(0, 1000),
)
def test_equals_the_loop(
    sizes: tuple[int, ...], shift: int, flip: bool, fill: str, dtype: torch.dtype, seed: int
) -> None:
    assume(fill != "reflect" or min(sizes[2:]) > shift)
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(1, 256, sizes, generator=generator).to(dtype)
    augment = Augment(shift=shift, flip=flip, fill=fill)
    draws = augment.draw(len(images), generator=generator)
    out = augment.apply(images, draws)
    assert out.dtype == dtype
    assert out.shape == images.shape
    for i, (down, right, mirror) in enumerate(draws.tolist()):
        expected = moved(images[i].numpy(), down, right, mirror, fill)
        np.testing.assert_array_equal(out[i].numpy(), expected)


def test_draws_are_uniform_over_all_moves() -> None:
    draws = Augment(shift=2, flip=True).draw(50_000, generator=torch.Generator().manual_seed(0))
    kinds = (draws[:, 0] + 2) * 10 + (draws[:, 1] + 2) * 2 + draws[:, 2]
    count = torch.bincount(kinds, minlength=50)
    assert len(count) == 50
    # chi-squared with 49 degrees of freedom: 1 - CDF(98) is about 4e-5
    assert float(((count - 1000.0) ** 2 / 1000.0).sum()) < 98


def test_without_flip_nothing_is_mirrored() -> None:
    draws = Augment(shift=1).draw(100, generator=torch.Generator().manual_seed(0))
    assert int(draws[:, 2].sum()) == 0


@pytest.mark.parametrize(("shift", "flip", "count"), [(0, False, 1), (1, False, 9), (2, True, 50)])
def test_variants_are_all_that_is_drawn(shift: int, flip: bool, count: int) -> None:
    augment = Augment(shift=shift, flip=flip)
    draws = augment.draw(2_000, generator=torch.Generator().manual_seed(0))
    assert {tuple(row) for row in draws.tolist()} == {
        tuple(row) for row in augment.variants().tolist()
    }
    assert len(augment.variants()) == count


def test_call_is_draw_and_apply_and_leaves_the_images() -> None:
    images: Tensor = torch.randint(0, 256, (9, 2, 5, 4), dtype=torch.uint8)
    kept = images.clone()
    augment = Augment(shift=2, flip=True)
    called = augment(images, generator=torch.Generator().manual_seed(3))
    draws = augment.draw(9, generator=torch.Generator().manual_seed(3))
    assert torch.equal(called, augment.apply(images, draws))
    assert torch.equal(images, kept)
    assert not torch.equal(called, images)


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="shift: got -1"):
        Augment(shift=-1)
    with pytest.raises(ConfigError, match="'zero', 'edge', 'reflect'"):
        Augment(fill="mirror")
    with pytest.raises(DataError, match="5 x 4 pixels to reflect by 4"):
        Augment(shift=4, fill="reflect")(torch.zeros(1, 1, 5, 4), generator=torch.Generator())
    with pytest.raises(DataError, match="expected"):
        Augment()(torch.zeros(3, 784), generator=torch.Generator())
