"""Extremely randomised trees whose errors on unseen data are measured while they are fitted.

Each tree is fitted to a bootstrap sample of the rows; a row's out-of-bag prediction is the mean over the
trees that have seen no row of its *group*. Rows of one group (replicates of one configuration) know too
much of each other to be tested on one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epigram.errors import ConfigError

FloatArray = NDArray[np.float64]

_TREES = 100
_LEAF = 2
_NORMAL_95 = 1.6449


class Forest:
    """A regression of several targets at once, with out-of-bag residuals.

    Args:
        features: ``[rows, features]``.
        targets: ``[rows, targets]``.
        groups: of each row.
        seed: of the bootstrap and of the trees.

    Raises:
        ConfigError: scikit-learn is not installed.
    """

    def __init__(
        self, features: FloatArray, targets: FloatArray, groups: Sequence[str], *, seed: int
    ) -> None:
        fitted = _forest_class()(
            n_estimators=_TREES,
            min_samples_leaf=_LEAF,
            max_features=0.5,
            bootstrap=True,
            random_state=seed,
        ).fit(features, targets)
        # the trees themselves: their wrappers check the same input a hundred times
        self._trees = [tree.tree_ for tree in fitted.estimators_]
        self._outputs = targets.shape[1]
        self.residuals = self._out_of_bag(features, targets, groups, fitted.estimators_samples_)
        """``[rows, targets]``: what was missed on rows whose group was not seen, widened for few rows."""

    def _out_of_bag(
        self, features: FloatArray, targets: FloatArray, groups: Sequence[str], samples: Any
    ) -> FloatArray:
        names = {group: place for place, group in enumerate(dict.fromkeys(groups))}
        member = np.array([names[group] for group in groups])
        rows = features.astype(np.float32)
        total, count = np.zeros_like(targets), np.zeros(len(rows))
        for tree, drawn in zip(self._trees, samples, strict=True):
            out = ~np.isin(member, member[drawn])
            if out.any():
                total[out] += tree.predict(rows[out]).reshape(-1, self._outputs)
                count[out] += 1
        known = count > 0
        residuals: FloatArray = targets[known] - total[known] / count[known, None]
        widened: FloatArray = residuals * few_rows(len(residuals))
        return widened

    def predict(self, row: Sequence[float]) -> FloatArray:
        """``[targets]``: the mean over all trees."""
        one = np.asarray([row], dtype=np.float32)
        each = np.array([tree.predict(one).reshape(self._outputs) for tree in self._trees])
        mean: FloatArray = each.mean(axis=0)
        return mean


def few_rows(n: int) -> float:
    """By how much residuals are widened, because a few of them do not show how large they can be.

    The 90 % interval of a new value from n others is wider by Student's quantile over the normal one, and
    by sqrt(1 + 1/n); the 5 % quantile of n values lies inwards of that of the distribution.
    """
    from scipy.stats import t  # noqa: PLC0415 - heavy

    if n < 2:
        return 1.0
    return float(t.ppf(0.95, n - 1)) / _NORMAL_95 * float(np.sqrt(1 + 1 / n)) * (n + 1) / (n - 1)


def _forest_class() -> Any:
    try:
        from sklearn.ensemble import ExtraTreesRegressor  # noqa: PLC0415 - an extra, and heavy
    except ImportError as error:
        raise ConfigError(
            "search: scikit-learn is not installed; expected `pip install 'epigram[search]'`"
        ) from error
    return ExtraTreesRegressor
