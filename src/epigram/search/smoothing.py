"""What trials taught together about size, without the luck of each: figures off a regression through all.

One configuration gives files that differ by a fifth between seeds. A sampler that wants to improve on the
smallest size seen chases the luckiest trial, finds nothing beside it that promises more, and wanders off
into corners of the space; so it is told smoothed sizes. Errors stay as they were judged: where a floor
is missed they rise like a cliff, and a regression through that says of good trials that they are poor.

References:
    Forrester, Keane, Bressloff 2006, "Design and Analysis of 'Noisy' Computer Experiments" (re-interpolation);
    Picheny, Wagner, Ginsbourger 2013, "A benchmark of kriging-based infill criteria for noisy optimization"
    (expected improvement with plug-in).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from epigram.errors import ConfigError
from epigram.search.proposer import STARTUP, Observation
from epigram.search.space import Space


def smoothed(space: Space, seen: Sequence[Observation]) -> list[Observation]:
    """The same observations, with log sizes off the mean of a Gaussian process that allows for noise.

    Those under way stay as they are, and so do all where there are fewer than ten.

    Args:
        space: what is searched.
        seen: what is known, in any order.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    known = sorted((one for one in seen if not one.pending), key=lambda one: one.number)
    values = np.array([one.log_size for one in known])
    if len(known) < STARTUP or values.std() < 1e-9:
        return list(seen)
    places = np.array([space.encode(one.values) for one in known])
    middle, spread = values.mean(), values.std()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a length at the end of its range is no news
        fitted = _regressor(places.shape[1]).fit(places, (values - middle) / spread)
        mean = fitted.predict(places) * spread + middle
    told = {
        one.number: replace(one, log_size=float(size))
        for one, size in zip(known, mean, strict=True)
    }
    return [told.get(one.number, one) for one in seen]


def _regressor(columns: int) -> Any:
    """Matérn 5/2 with a length per column; scale, lengths and noise are estimated."""
    try:
        from sklearn import gaussian_process as gp  # noqa: PLC0415 - an extra, and heavy
    except ImportError as error:
        raise ConfigError(
            "search: scikit-learn is not installed; expected `pip install 'epigram[search]'`"
        ) from error
    lengths = gp.kernels.Matern(np.full(columns, 0.5), (0.1, 10.0), nu=2.5)
    scale = gp.kernels.ConstantKernel(1.0, (0.05, 20.0))
    noise = gp.kernels.WhiteKernel(0.2, (0.01, 2.0))
    return gp.GaussianProcessRegressor(scale * lengths + noise, random_state=0)
