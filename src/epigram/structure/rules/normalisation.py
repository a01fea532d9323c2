"""Normalisation: per channel it carries units, across channels it pins them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epigram.structure.rules.contractions import channels
from epigram.structure.rules.mixing import kept_apart

if TYPE_CHECKING:
    from torch import Tensor

    from epigram.structure.call import Call, Rule, Value


def batch_norm(call: Call) -> Value:
    """Batch and instance normalisation: statistics and affine map of each channel by itself."""
    labels = call.subject
    along = channels(call, 1)
    for argument in ("weight", "bias", "running_mean", "running_var"):
        call.record(argument, 0, along, "carries")
    return call.results(labels)


def group_norm(call: Call) -> Value:
    """Group normalisation: statistics across channels, unless every channel is its own group."""
    labels = call.subject
    along = channels(call, 1)
    if int(call.get("num_groups")) != len(along):
        call.space.pin(labels, call.cause("its statistics mix the channels of a group"))
    for argument in ("weight", "bias"):
        call.record(argument, 0, along, "carries")
    return call.results(labels)


def layer_norm(call: Call) -> Value:
    """Layer and RMS normalisation over the last axes: statistics that mix whatever differs there.

    On request units may go all the same: then the statistics keep counting them, as zeros.
    """
    labels = call.subject
    normalised = len(call.get("normalized_shape"))
    weight, last = call.weight("weight"), labels.dim() - 1
    if call.engine.by_stream and weight is not None and _is_stream(call, labels):
        along = call.space.collapse(labels, last, call.cause("it is normalised"))
        if call.engine.note_counted(weight, along):
            for argument in ("weight", "bias"):
                call.record(argument, 0, along, "carries")
            return call.results(labels)
    kept_apart(call, labels, list(range(labels.dim() - normalised, labels.dim())))
    for argument in ("weight", "bias"):
        affine = call.engine.stream(call.arguments[argument]) if call.get(argument) else None
        if affine is not None:
            call.space.pin(affine, call.cause("kept whole"))
    return call.results(labels)


def _is_stream(call: Call, labels: Tensor) -> bool:
    """Do units differ along the last axis, and elsewhere only as some positions hold others (a class token)?

    Where all places of another axis hold units of their own these are heads, which stay apart.
    """
    varying, last = call.space.varying(labels), labels.dim() - 1
    others = [d for d in varying if d != last]
    return last in varying and not any(call.space.all_differ(labels, d) for d in others)


RULES: dict[str, Rule] = {
    "batch_norm": batch_norm,
    "instance_norm": batch_norm,
    "_native_batch_norm_legit_no_training": batch_norm,
    "group_norm": group_norm,
    "layer_norm": layer_norm,
    "rms_norm": layer_norm,
}
