"""Parquet tables of images, as Hugging Face's ``datasets`` writes them."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from epigram.data.decoded import Decoded, remembered
from epigram.data.pictures import Decoding, decode
from epigram.data.tensor_set import TensorSet
from epigram.errors import DataError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label")

_ROWS = 4096


def parts(folder: Path | str, split: str) -> list[Path]:
    """The files of a split, in order: ``train.parquet`` or ``train-00000-of-00002.parquet`` ...

    Looked for in ``folder`` itself, then in ``data`` and ``plain_text`` below it.
    """
    for place in (Path(folder), Path(folder) / "data", Path(folder) / "plain_text"):
        found = sorted({*place.glob(f"{split}.parquet"), *place.glob(f"{split}-*.parquet")})
        if found:
            return found
    return []


def load(
    files: Path | str | Sequence[Path | str],
    *,
    name: str = "table",
    num_classes: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    decoding: Decoding | None = None,
) -> TensorSet:
    """A table of images and labels: uint8 ``[examples, channels, height, width]``.

    Decoded once; the pixels are kept in the cache folder.

    Args:
        files: one file, or those of a split in order.
        name: what messages call the set.
        num_classes: when given, labels must be below it.
        image_column: a column of structs with ``bytes``; None = ``img`` or ``image``.
        label_column: a column of integers; None = ``label`` or ``fine_label``.
        decoding: how pictures become pixels; None = RGB, all of one size.

    Raises:
        DataError: pyarrow is not installed, a file is missing or damaged, there are no such columns,
            or a picture cannot be decoded.
    """
    paths = [Path(files)] if isinstance(files, Path | str) else [Path(file) for file in files]
    if not paths:
        raise DataError(f"{name}: got no parquet files, expected at least one")
    decoding = decoding or Decoding()
    digests = [_digest(path) for path in paths]
    key = f"parquet {digests} {image_column} {label_column} {decoding.describe()}"
    images, labels = remembered(key, lambda: _decoded(paths, image_column, label_column, decoding))
    return TensorSet(torch.from_numpy(images), torch.from_numpy(labels), name, num_classes)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _decoded(
    paths: list[Path], image_column: str | None, label_column: str | None, decoding: Decoding
) -> Decoded:
    tables = [_Table(path, image_column, label_column) for path in paths]
    labels = np.concatenate([table.labels() for table in tables])
    if not len(labels):
        raise DataError(f"{paths[0]}: holds no rows, expected at least one image")
    pictures = (picture for table in tables for picture in table.pictures())
    return decode(pictures, len(labels), decoding), labels


class _Table:
    """One file; its columns are found and checked when it is opened."""

    def __init__(self, path: Path, image_column: str | None, label_column: str | None) -> None:
        self.path, self.arrow = path, _pyarrow()
        try:
            self.file = self.arrow.parquet.ParquetFile(path)
        except (OSError, self.arrow.ArrowException) as error:
            raise DataError(f"{path}: is not a parquet file that can be read: {error}") from error
        self.image = self._column(image_column, IMAGE_COLUMNS)
        self.label = self._column(label_column, LABEL_COLUMNS)
        types, schema = self.arrow.types, self.file.schema_arrow
        kind = schema.field(self.image).type
        if not types.is_struct(kind) or kind.get_field_index("bytes") < 0:
            raise DataError(
                f"{path}: column {self.image!r} is {kind}, expected a struct with a field 'bytes'"
            )
        if not types.is_integer(schema.field(self.label).type):
            raise DataError(
                f"{path}: column {self.label!r} is {schema.field(self.label).type}, "
                "expected integers; name another with label_column="
            )

    def labels(self) -> Any:
        """int64 ``[rows]``."""
        column = self._read([self.label]).column(0)
        if column.null_count:
            raise DataError(
                f"{self.path}: column {self.label!r} has {column.null_count} empty rows"
            )
        return column.to_numpy().astype(np.int64)

    def pictures(self) -> Iterator[tuple[str, bytes]]:
        """Every row's picture, as stored, and what to call it."""
        row = 0
        for group in range(self.file.num_row_groups):
            for cell in self._read([f"{self.image}.bytes"], group).column(0).to_pylist():
                encoded = None if cell is None else cell["bytes"]
                if not isinstance(encoded, bytes):
                    raise DataError(
                        f"{self.path}: row {row} has no bytes in column {self.image!r}; expected "
                        "the pictures in the table, not paths to them"
                    )
                yield f"{self.path}: row {row}", encoded
                row += 1

    def _column(self, asked: str | None, usual: tuple[str, ...]) -> str:
        names = self.file.schema_arrow.names
        found = [name for name in ((asked,) if asked else usual) if name in names]
        if not found:
            raise DataError(
                f"{self.path}: has the columns {', '.join(names)}; expected "
                f"{asked or ' or '.join(usual)}, or its name as an argument"
            )
        return found[0]

    def _read(self, columns: list[str], group: int | None = None) -> Any:
        try:
            if group is None:
                return self.file.read(columns=columns)
            return self.file.read_row_group(group, columns=columns)
        except (OSError, self.arrow.ArrowException) as error:
            raise DataError(f"{self.path}: is damaged: {error}; copy it again") from error


def _pyarrow() -> Any:
    try:
        arrow = importlib.import_module("pyarrow")
        importlib.import_module("pyarrow.parquet")
        importlib.import_module("pyarrow.types")
    except ImportError as error:
        raise DataError(
            "parquet tables need pyarrow, which is not installed: pip install 'epigram[parquet]'"
        ) from error
    return arrow
