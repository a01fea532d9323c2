"""Looked-up noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from epigram.maths.noise import _quantiles, looked_up_normal


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_is_the_normal_distribution_to_the_precision_of_the_type(dtype: torch.dtype) -> None:
    drawn = looked_up_normal(200_001, dtype, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (200_001,)
    assert drawn.dtype == dtype
    # rounding moves a quantile by up to 2^-9 of it; 1.63 / √n is the 1 % point of Kolmogorov and Smirnov
    distance = stats.kstest(drawn.double().numpy(), "norm").statistic
    assert distance < 1.63 / 200_001**0.5 + 2**-9
    lags = drawn.double().numpy()
    assert all(abs(np.corrcoef(lags[:-k], lags[k:])[0, 1]) < 0.01 for k in (1, 2, 3, 4))


def test_its_table_has_the_moments() -> None:
    table = _quantiles(torch.float64)
    assert table.mean().item() == pytest.approx(0.0, abs=1e-12)
    assert table.square().mean().item() == pytest.approx(1.0, rel=1e-12)
    assert table.pow(4).mean().item() == pytest.approx(3.0, rel=2e-3)
    assert table.max().item() == pytest.approx(4.325, abs=1e-3)


def test_every_lane_has_all_its_bits_and_seeds_repeat() -> None:
    first, again = (
        looked_up_normal(4096, torch.bfloat16, generator=torch.Generator().manual_seed(5))
        for _ in range(2)
    )
    assert torch.equal(first, again)
    for lane in range(4):
        assert first[lane::4].double().mean().item() == pytest.approx(0.0, abs=5 / 32)
