"""The figures that a trial is told with, as an outcome."""

from __future__ import annotations

import math
from collections.abc import Mapping

from epigram.errors import ConfigError
from epigram.search.history import Outcome
from epigram.search.objective import Objective


def outcome_of(figures: Mapping[str, float], objective: Objective) -> Outcome:
    """*Finished* with metric and size; *diverged* where one of them is NaN or infinite.

    Raises:
        ConfigError: a figure is missing, or the size is not above 0.

    Example:
        >>> from epigram.records import Floor
        >>> wanted = Objective(Floor.parse("accuracy>=0.98"))
        >>> outcome_of({"accuracy": 0.99, "size_bytes": 700}, wanted).kind
        'finished'
    """
    name, key = objective.floor.metric, objective.size_key
    for wanted in (name, key):
        if wanted not in figures:
            raise ConfigError(f"tell: got {', '.join(figures)}; expected {name} and {key}")
    metric, size = float(figures[name]), float(figures[key])
    if not (math.isfinite(metric) and math.isfinite(size)):
        return Outcome("diverged", note=f"{name} is {metric}, {key} is {size}")
    if size <= 0:
        raise ConfigError(f"tell: {key} is {size}, expected a number above 0")
    examples = figures.get("examples")
    return Outcome("finished", metric, size, examples=int(examples) if examples else None)
