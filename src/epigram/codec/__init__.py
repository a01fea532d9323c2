"""Symbols to bytes and back (`docs/format.md`). numpy and the entropy coder only, never torch."""

from epigram.codec.container import Profile
from epigram.codec.files import decode, encode
from epigram.codec.inspecting import inspect, profile_of
from epigram.codec.limits import Limits
from epigram.codec.sizes import Breakdown, breakdown, size_estimate
from epigram.codec.steps import representable_step
from epigram.codec.symbols import tensor_bits

__all__ = [
    "Breakdown",
    "Limits",
    "Profile",
    "breakdown",
    "decode",
    "encode",
    "inspect",
    "profile_of",
    "representable_step",
    "size_estimate",
    "tensor_bits",
]
