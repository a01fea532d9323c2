"""What can be encoded: a caller's mistake is named before a byte is written."""

from __future__ import annotations

import numpy as np

from epigram.codec.limits import Limits
from epigram.codec.raw import dtype_code
from epigram.codec.shapes import check_dense, check_elements
from epigram.codec.steps import representable_step
from epigram.cosine import MOST, has_kernels
from epigram.errors import ConfigError, FormatError
from epigram.records import CodedTensor, FileContents, RawTensor

_WIDEST = 1 << 31


def check_contents(contents: FileContents) -> None:
    """Refuse contents that a reader with default limits would not get back as they are.

    Raises:
        ConfigError: the message names the tensor, group or text and what is wrong with it.
    """
    names = [tensor.name for tensor in contents.tensors]
    groups = [edit.name for edit in contents.edits]
    for name in (*names, *groups):
        if (names.count(name) if name in names else groups.count(name)) > 1:
            raise ConfigError(f"{name}: got two of this name, expected one")
    for tensor in contents.tensors:
        _check_shape(tensor)
        if isinstance(tensor, RawTensor):
            dtype_code(tensor.values_.dtype, tensor.name)
        else:
            _check_coded(tensor)
    for edit in contents.edits:
        if edit.kept.dtype != np.bool_ or edit.kept.ndim != 1:
            raise ConfigError(
                f"edit of {edit.name}: got {edit.kept.dtype} {edit.kept.shape}, expected one boolean per unit"
            )
    for path, number in contents.numbers.items():
        if not 0 <= number < _WIDEST - 1:
            raise ConfigError(
                f"{path}: got the number {number}, expected one from 0 on, below 2^31 - 1"
            )
    _check_text(contents)
    try:
        masks = [t.live for t in contents.tensors if isinstance(t, CodedTensor)]
        positions = sum(len(mask) for mask in masks if mask is not None)
        units = sum(len(edit.kept) for edit in contents.edits)
        Limits().check("dead positions and units", positions + units, "max_mask_bits")
        check_dense({tensor.name: tensor.dense_shape for tensor in contents.tensors})
        check_elements(Limits(), {tensor.name: tensor.shape for tensor in contents.tensors})
    except FormatError as error:
        raise ConfigError(str(error)) from error


def _check_shape(tensor: CodedTensor | RawTensor) -> None:
    small, dense = tensor.shape, tensor.dense_shape
    fits = len(small) == len(dense) and all(0 <= s <= d for s, d in zip(small, dense, strict=True))
    if not fits or any(size >= _WIDEST for size in dense):
        raise ConfigError(
            f"{tensor.name}: got shape {small} of dense {dense}, expected as many axes and none longer"
        )


def _check_coded(tensor: CodedTensor) -> None:
    name, step = tensor.name, tensor.step_size
    if tensor.cosine and not has_kernels(tensor.shape):
        raise ConfigError(
            f"{name}: got coefficients of shape {tensor.shape}, expected those of two-dimensional kernels of 2 to "
            f"{MOST} places along both axes"
        )
    if tensor.symbols.dtype != np.int32:
        raise ConfigError(f"{name}: got symbols of {tensor.symbols.dtype}, expected int32")
    if representable_step(step) != step:
        raise ConfigError(
            f"{name}: got step size {step!r}, which a file cannot say; "
            f"expected representable_step(step) = {representable_step(step)!r}"
        )
    if tensor.live is None:
        return
    axis = tensor.live_axis
    if not 0 <= axis < tensor.symbols.ndim or tensor.live.shape != (tensor.shape[axis],):
        raise ConfigError(
            f"{name}: got live {tensor.live.shape} for axis {axis} of {tensor.shape}, "
            "expected one boolean per position of that axis"
        )
    if tensor.live.dtype != np.bool_ or np.compress(~tensor.live, tensor.symbols, axis).any():
        raise ConfigError(f"{name}: got symbols at dead positions, expected zeros")


def _check_text(contents: FileContents) -> None:
    texts = [tensor.name for tensor in contents.tensors] + [edit.name for edit in contents.edits]
    texts += [text for pair in contents.metadata.items() for text in pair]
    texts += list(contents.numbers)
    used = 0
    for text in texts:
        try:
            used += len(text.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise ConfigError(f"text: got {text!r}, which is not Unicode ({error})") from error
    if used > Limits().max_text_bytes:
        raise ConfigError(
            f"text: got {used} bytes of names and metadata, "
            f"expected at most {Limits().max_text_bytes}"
        )
