"""One draw of a scale for all its readers during one forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from epigram.priors.base import GroupScale, SharedDraw


@contextmanager
def shared_draws(scales: Iterable[GroupScale], batch: int) -> Iterator[None]:
    """Within the block every reader of a scale sees the same draw, made when first asked for.

    Blocks may be nested: the inner one draws afresh, and the outer one's draw is back when it
    ends. Nothing is left on the scales afterwards, exceptions included. In ``eval()`` mode nobody
    asks for a draw, so the block costs nothing there. Not for several threads at once on the
    same scales.

    Args:
        scales: the scales concerned; duplicates do no harm.
        batch: the number of examples of the forward pass.

    Example:
        >>> from epigram.priors import GroupJeffreys
        >>> scale = GroupJeffreys(4)
        >>> with shared_draws([scale], 2):
        ...     bool((scale.draw(2) == scale.draw(2)).all())
        True
    """
    distinct = list(dict.fromkeys(scales))
    before = [scale.shared_draw for scale in distinct]
    try:
        for scale in distinct:
            scale.shared_draw = SharedDraw(batch)
        yield
    finally:
        for scale, draw in zip(distinct, before, strict=True):
            scale.shared_draw = draw
