"""Contents to bytes and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from epigram.codec.checks import check_contents
from epigram.codec.container import Envelope, Profile, unwrap, wrap
from epigram.codec.layout import code_contents
from epigram.codec.limits import Limits
from epigram.codec.native import fit_for
from epigram.codec.reader import Reader
from epigram.codec.shapes import Shape
from epigram.codec.writer import Writer
from epigram.errors import ConfigError, FormatError
from epigram.records import CodedTensor, FileContents


def encode(
    contents: FileContents,
    *,
    profile: Profile = "bare",
    state_names: Sequence[str] | None = None,
) -> bytes:
    """The file that says ``contents``; the same bytes on every platform.

    Args:
        contents: tensors in ``state_dict`` order; ``edits`` and ``metadata`` go into named files only.
        profile: *bare* leaves names and dense shapes to the reader, *named* holds them.
        state_names: all tensors of the original in order, if some are not in ``contents``; a bare
            file then says which.

    Raises:
        ConfigError: something in ``contents`` cannot be written; the message names it.
    """
    writer = Writer(fit_for(0))
    write(writer, contents, profile, state_names)
    return wrap(
        writer.finish(), profile, numbers=bool(contents.numbers), cosine=has_cosine(contents)
    )


def decode(
    data: bytes,
    *,
    dense_shapes: Mapping[str, Shape] | None = None,
    limits: Limits = Limits(),  # noqa: B008  (frozen)
) -> FileContents:
    """What a file says.

    Args:
        data: the whole file.
        dense_shapes: names and shapes of the original's tensors, in the order in which they were
            written; needed for a bare file. A named file is checked against it where given.
        limits: caps that are checked before memory is taken.

    Raises:
        FormatError: not an epigram file, damaged, beyond the limits, or not for these shapes.
    """
    return read(data, dense_shapes, limits)[2]


def write(
    writer: Writer,
    contents: FileContents,
    profile: Profile,
    state_names: Sequence[str] | None,
    *,
    quick: bool = False,
) -> None:
    """Check ``contents`` and put the stream into ``writer``; ``quick``: no model is tried beside another."""
    if profile not in ("bare", "named"):
        raise ConfigError(f"profile: got {profile!r}, expected 'bare' or 'named'")
    check_contents(contents)
    names = [tensor.name for tensor in contents.tensors]
    present = [True] * len(names)
    if state_names is not None:
        held = set(names)
        present = [name in held for name in state_names]
        if [name for name in state_names if name in held] != names:
            raise ConfigError(
                f"state_names: got {list(state_names)}, expected the file's tensors {names} among "
                "them, in this order"
            )
    code_contents(
        writer,
        profile=profile,
        contents=contents,
        dense={tensor.name: tensor.dense_shape for tensor in contents.tensors},
        present=present,
        limits=Limits(),
        numbers=bool(contents.numbers),
        cosine=has_cosine(contents),
        quick=quick,
    )


def has_cosine(contents: FileContents) -> bool:
    """Are symbols of some tensor coefficients of a cosine transform?"""
    return any(isinstance(tensor, CodedTensor) and tensor.cosine for tensor in contents.tensors)


def read(
    data: bytes, dense_shapes: Mapping[str, Shape] | None, limits: Limits
) -> tuple[Envelope, Reader, FileContents]:
    """The file's outside, the reader with its account of bits, and the contents."""
    envelope = unwrap(bytes(data), limits)
    if envelope.profile == "bare" and dense_shapes is None:
        raise FormatError(
            "dense_shapes: got none, but the file is bare; pass the original's names and shapes, in "
            "state_dict order"
        )
    reader = Reader(envelope.stream, fit_for(0))
    try:
        contents = code_contents(
            reader,
            profile=envelope.profile,
            contents=None,
            dense=dense_shapes,
            present=None,
            limits=limits,
            version=envelope.version,
            numbers=envelope.numbers,
            cosine=envelope.cosine,
        )
    except MemoryError as error:
        raise FormatError("file: it asks for more memory than there is; lower limits") from error
    reader.finish()
    if envelope.profile == "named" and dense_shapes is not None:
        _check_shapes(contents, dense_shapes)
    return envelope, reader, contents


def _check_shapes(contents: FileContents, dense_shapes: Mapping[str, Shape]) -> None:
    for tensor in contents.tensors:
        if tensor.name not in dense_shapes:
            raise FormatError(
                f"{tensor.name}: in the file, but not among {', '.join(dense_shapes)}; pass the "
                "class the file was made from"
            )
        if tuple(dense_shapes[tensor.name]) != tensor.dense_shape:
            raise FormatError(
                f"{tensor.name}: got {tuple(dense_shapes[tensor.name])}, but the file was written "
                f"for {tensor.dense_shape}; pass the class the file was made from"
            )
