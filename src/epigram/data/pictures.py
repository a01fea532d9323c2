"""Encoded pictures (PNG, JPEG ...) -> one uint8 array."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, features

from epigram.errors import ConfigError, DataError

LOSSLESS = ("PNG", "BMP", "PPM", "TIFF")
FORMATS = (*LOSSLESS, "JPEG", "WEBP", "GIF")
"""What is decoded; formats that are programs (EPS, PDF) are not among them."""

Pixels: TypeAlias = NDArray[np.uint8]

_CHANNELS = {"RGB": 3, "L": 1}
MAX_PIXELS = 1 << 24
"""Of one picture as it is stored; a small file can claim to be a huge picture."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How pictures become an array.

    Args:
        mode: ``"RGB"`` (3 channels) or ``"L"`` (grey, 1 channel); others are converted.
        resize: ``(height, width)`` for all of them, bilinear; None = they must be equally large.
        formats: the file formats accepted.

    Raises:
        ConfigError: another mode, a size that is not positive, an unknown format.
    """

    mode: str = "RGB"
    resize: tuple[int, int] | None = None
    formats: tuple[str, ...] = FORMATS

    def __post_init__(self) -> None:
        if self.mode not in _CHANNELS:
            raise ConfigError(f"mode: got {self.mode!r}, expected one of {', '.join(_CHANNELS)}")
        if self.resize is not None and min(self.resize) < 1:
            raise ConfigError(f"resize: got {self.resize}, expected (height, width), both positive")
        if unknown := set(self.formats) - set(FORMATS):
            raise ConfigError(f"formats: got {sorted(unknown)}, expected some of {FORMATS}")

    def describe(self) -> str:
        """Everything that the pixels depend on beside the files, versions of decoders included."""
        decoders = {name: features.version(name) for name in ("jpg", "libjpeg_turbo", "webp")}
        return f"{self!r} pillow {PIL.__version__} {decoders}"


def decode(pictures: Iterable[tuple[str, bytes]], count: int, decoding: Decoding) -> Pixels:
    """The pixels of all pictures, ``[count, channels, height, width]``.

    Args:
        pictures: where each one is from, for messages, and its bytes as stored.
        count: how many there are.
        decoding: how.

    Raises:
        DataError: one cannot be decoded, has a format that is not accepted, is too large, or is of
            another size than the first (which is named).
    """
    stream = _arrays(pictures, decoding)
    first_where, first = next(stream)
    stacked: Pixels = np.empty((count, *first.shape), np.uint8)
    stacked[0] = first
    for number, (where, pixels) in enumerate(stream, 1):
        if pixels.shape != first.shape:
            raise DataError(
                f"{where}: is {_size(pixels)}, but {first_where} is {_size(first)}; "
                "expected pictures of one size, or resize=(height, width)"
            )
        stacked[number] = pixels
    return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))


def _arrays(
    pictures: Iterable[tuple[str, bytes]], decoding: Decoding
) -> Iterator[tuple[str, Pixels]]:
    for where, encoded in pictures:
        yield where, _decode_one(where, encoded, decoding)


def _decode_one(where: str, encoded: bytes, decoding: Decoding) -> Pixels:
    """One picture, ``[height, width, channels]``."""
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as picture:
            _check(where, picture, decoding)
            converted = picture.convert(decoding.mode)
            if decoding.resize is not None and converted.size != decoding.resize[::-1]:
                converted = converted.resize(decoding.resize[::-1], Image.Resampling.BILINEAR)
            pixels = np.asarray(converted, np.uint8)
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{where}: is not a picture that can be decoded ({error}); expected one of "
            f"{', '.join(decoding.formats)}"
        ) from error
    return pixels.reshape(*pixels.shape[:2], _CHANNELS[decoding.mode])


def _check(where: str, picture: Any, decoding: Decoding) -> None:
    if picture.format not in decoding.formats:
        raise DataError(
            f"{where}: is stored as {picture.format}, expected {' or '.join(decoding.formats)}"
        )
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{where}: has {width} x {height} pixels, expected at most {MAX_PIXELS}; make it smaller"
        )


def _size(pixels: Pixels) -> str:
    return f"{pixels.shape[1]} x {pixels.shape[0]} pixels"
