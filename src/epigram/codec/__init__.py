"""Symbols to bytes and back (`docs/format.md`). numpy and the entropy coder only, never torch."""

from epigram.codec.container import Profile
from epigram.codec.files import decode, encode
from epigram.codec.inspecting import inspect, profile_of
from epigram.codec.limits import Limits
from epigram.codec.sizes import Breakdown, breakdown, size_estimate, stream_bits
from epigram.codec.steps import representable_step
from epigram.codec.symbols import tensor_bits
from epigram.codec.trellis import MOVES as TRELLIS_MOVES

__all__ = [
    "TRELLIS_MOVES",
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
    "stream_bits",
    "tensor_bits",
]
