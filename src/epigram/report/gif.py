"""Animated GIFs whose frames share one palette and store only what changed.

Pillow compresses each frame; the container around them is written here, because Pillow's own writer
stores the whole rectangle in which anything changed: four times as many bytes for weights that drift.
Layout: GIF89a specification (CompuServe, 1990).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

UNCHANGED = 255
"""The palette index that means: as in the frame before."""


def encode(
    frames: Sequence[NDArray[np.uint8]], palette: Sequence[int], *, delays_ms: Sequence[int]
) -> bytes:
    """A GIF that plays for ever.

    Args:
        frames: palette indices ``[height, width]``, below 255, all of one shape.
        palette: red, green, blue of every index, 0..255.
        delays_ms: how long each frame stays, rounded to hundredths of a second.

    Raises:
        ValueError: the numbers of frames and delays differ.
    """
    height, width = frames[0].shape
    colours = bytes(palette).ljust(768, b"\0")
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0) + colours
    forever = b"\x21\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<H", 0) + b"\0"
    pieces = [head, forever]
    before: NDArray[np.uint8] | None = None
    for frame, delay in zip(frames, delays_ms, strict=True):
        changed = frame
        if before is not None:
            changed = np.where(frame == before, np.uint8(UNCHANGED), frame)
        # keep what was there (disposal 1), index 255 is transparent
        pieces.append(b"\x21\xf9\x04" + struct.pack("<BHB", 0x05, delay // 10, UNCHANGED) + b"\0")
        pieces.append(_image_block(changed))
        before = frame
    return b"".join([*pieces, b"\x3b"])


def _image_block(indices: NDArray[np.uint8]) -> bytes:
    """Descriptor and compressed pixels of one frame, taken from a GIF of that frame alone."""
    image = Image.fromarray(indices)
    image.putpalette(bytes(range(256)) * 3)
    alone = io.BytesIO()
    image.save(alone, format="GIF", optimize=False, interlace=0)
    content = alone.getvalue()
    flags = content[10]
    start = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    while content[start] == 0x21:  # skip extensions: two bytes, then blocks with their lengths
        start += 2
        while content[start]:
            start += content[start] + 1
        start += 1
    return content[start:-1]
