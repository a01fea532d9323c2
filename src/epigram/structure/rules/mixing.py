"""Operations along some axes (softmax, sums, means): they pin units that lie on those axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from epigram.structure.call import Call, Rule, Value


def reduce(call: Call) -> Value:
    """Reductions: along axes where nothing differs, the result keeps the units of the others."""
    labels = call.subject
    axes = _axes(call, labels.dim())
    if _pinned(call, axes):
        return call.opaque()
    for axis in axes:
        if labels.shape[axis]:
            labels = labels.narrow(axis, 0, 1)
    return call.results(labels.reshape(call.shape))


def along(call: Call) -> Value:
    """Softmax, cumulative sums and the like: same shape out, every element needs its whole row."""
    labels = call.subject
    _pinned(call, _axes(call, labels.dim()))
    return call.results(labels)


def _axes(call: Call, rank: int) -> list[int]:
    given = call.get("dim")
    if given is None or given == []:
        return list(range(rank))
    return [
        d % rank if rank else 0 for d in (given if isinstance(given, list | tuple) else [given])
    ]


def _pinned(call: Call, axes: list[int]) -> bool:
    mixed = [d for d in call.space.varying(call.subject) if d in axes]
    if mixed:
        call.space.pin(call.subject, call.cause(f"it mixes the units along axis {mixed[0]}"))
    return bool(mixed)


RULES: dict[str, Rule] = {
    **dict.fromkeys(
        [
            "sum",
            "mean",
            "amax",
            "amin",
            "max",
            "min",
            "aminmax",
            "argmax",
            "argmin",
            "prod",
            "var",
            "std",
            "var_mean",
            "std_mean",
            "any",
            "all",
            "logsumexp",
            "norm",
            "linalg_vector_norm",
            "median",
            "nanmean",
            "nansum",
        ],
        reduce,
    ),
    **dict.fromkeys(
        [
            "softmax",
            "log_softmax",
            "_softmax",
            "_log_softmax",
            "cumsum",
            "cumprod",
            "cummax",
            "cummin",
            "logcumsumexp",
            "sort",
        ],
        along,
    ),
}
