"""Affine maps of images against scipy's, and what an augmentation has to keep."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from epigram.data import Augment, Augmentation, Warp, batches, mnist
from epigram.data.stream import Batch
from epigram.errors import ConfigError, DataError


def images(count: int, height: int = 9, width: int = 12, channels: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, height, width), generator=generator).byte()


def test_equals_scipy() -> None:
    warp = Warp(ways=6)
    shown = images(6).double()
    out = warp.apply(shown, warp.variants())
    centre = (np.array(shown.shape[-2:]) - 1) / 2
    for i, matrix in enumerate(warp.maps().double().numpy()):
        # scipy's places are (row, column), ours (x, y)
        linear, offset = matrix[::-1, 1::-1], matrix[::-1, 2]
        for channel in range(2):
            expected = affine_transform(
                np.pad(shown[i, channel].numpy(), 1),
                linear,
                offset=centre + 1 + offset - linear @ (centre + 1),
                order=1,
                mode="constant",
            )[1:-1, 1:-1]
            # affine_grid is computed in single precision
            np.testing.assert_allclose(out[i, channel].numpy(), expected, atol=1e-2)


def test_without_deviations_nothing_moves() -> None:
    still = Warp(turn=0.0, stretch=0.0, slant=0.0, move=0.0)
    shown = images(5)
    assert torch.equal(still(shown, generator=torch.Generator()), shown)


def test_a_pixel_more_moves_a_pixel() -> None:
    """The largest move is two deviations; the picture follows ``move`` linearly."""
    near, far = (Warp(turn=0.0, stretch=0.0, slant=0.0, move=m).maps()[:, :, 2] for m in (1.0, 2.0))
    torch.testing.assert_close(far, 2 * near)
    assert float(far.abs().max()) <= 4.0


def test_maps_are_the_same_in_every_run() -> None:
    """Recipes depend on them; these are the figures of the first map."""
    with torch.random.fork_rng():
        torch.manual_seed(99)
        found = Warp().maps()[0]
    expected = [[1.0172, -0.0638, -0.1002], [-0.0729, 1.0522, 0.1711]]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_an_image_is_the_same_in_every_batch(dtype: torch.dtype) -> None:
    warp = Warp()
    shown = images(40, 28, 28, 1).to(dtype)
    draws = warp.draw(40, generator=torch.Generator().manual_seed(1))
    whole = warp.apply(shown, draws)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    parts = torch.cat([warp.apply(shown[rows], draws[rows]) for rows in torch.split(order, 7)])
    assert whole.dtype == dtype
    assert torch.equal(whole[order], parts)


@pytest.mark.parametrize("augment", [Augment(shift=1), Warp(ways=5)])
def test_variants_are_all_that_is_drawn(augment: Augmentation) -> None:
    draws = augment.draw(2_000, generator=torch.Generator().manual_seed(0))
    assert {tuple(r) for r in draws.tolist()} == {tuple(r) for r in augment.variants().tolist()}


def test_digits_stay_digits() -> None:
    """What leaves the frame is little: digits keep their ink, but for what stretches do to it."""
    digits = mnist.splits().control.inputs[:200]
    warp = Warp()
    for way in warp.variants():
        share = warp.apply(digits, way.expand(200, 1)).sum() / digits.sum()
        scale = float(torch.linalg.det(warp.maps()[int(way), :, :2]))
        assert math.isclose(float(share), 1 / scale, rel_tol=0.02)


def test_batches_are_warped_alike_wherever_one_starts() -> None:
    data = mnist.splits().control.subset(slice(0, 64))

    def some(first: int) -> list[Batch]:
        stream = batches(data, batch_size=10, seed=3, epoch=4, augment=Warp(), first_batch=first)
        return list(stream)

    whole, late = some(0), some(4)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(whole[4:], late, strict=True))


def test_refusals() -> None:
    with pytest.raises(ConfigError, match=r"warp\.ways: got 0"):
        Warp(ways=0)
    with pytest.raises(ConfigError, match=r"warp\.slant: got -0\.1"):
        Warp(slant=-0.1)
    with pytest.raises(ConfigError, match=r"warp\.turn: got nan"):
        Warp(turn=math.nan)
    with pytest.raises(DataError, match="expected"):
        Warp()(torch.zeros(3, 784), generator=torch.Generator())
