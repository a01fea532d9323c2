"""Operations along some axes (softmax, sums, means): they pin units that lie on those axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from epigram.structure.call import Call, Rule, Value


def reduce(call: Call) -> Value:
    """Reductions: along axes where nothing differs, the result keeps the units of the others."""
    labels = call.subject
    axes = _axes(call, labels.dim())
    if not kept_apart(call, labels, axes):
        return call.opaque()
    for axis in axes:
        if labels.shape[axis]:
            labels = labels.narrow(axis, 0, 1)
    return call.results(labels.reshape(call.shape))


def along(call: Call) -> Value:
    """Softmax, cumulative sums and the like: same shape out, every element needs its whole row."""
    labels = call.subject
    kept_apart(call, labels, _axes(call, labels.dim()))
    return call.results(labels)


def kept_apart(call: Call, labels: Tensor, axes: list[int]) -> bool:
    """Can units still go, one without the other, after something that mixes all along ``axes``?

    What differs along other axes too (places in a head, of several heads) goes together along
    these: a head needs all of itself, but no other head. What differs only here is pinned.
    """
    space = call.space
    varying = space.varying(labels)
    mixed = [d for d in varying if d in axes]
    if not mixed:
        return True
    ragged = [d for d in varying if d not in axes and not space.all_differ(labels, d)]
    if ragged:
        space.tie(labels, ragged, call.cause("some places hold other units than the others"))
        varying = space.varying(labels)
    cause = call.cause(f"it mixes the units along axis {mixed[0]}")
    if set(varying) <= set(mixed):
        space.pin(labels, cause)
        return False
    space.tie(labels, mixed, cause)
    return True


def _axes(call: Call, rank: int) -> list[int]:
    given = call.get("dim")
    if given is None or given == []:
        return list(range(rank))
    return [
        d % rank if rank else 0 for d in (given if isinstance(given, list | tuple) else [given])
    ]


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
