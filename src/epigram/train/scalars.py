"""TensorBoard scalars, one run per stage, without duplicates after a resume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from epigram.errors import StorageError


class Scalars:
    """Writes an epoch's numbers to ``folder/tensorboard/<stage>``.

    Args:
        folder: the run's folder.
        stage: the stage's name.
        first_step: the step from which this session goes on; TensorBoard forgets what an earlier,
            killed session wrote from there on.
    """

    def __init__(self, folder: Path, stage: str, *, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - takes a second to load

        self._writer: Any = SummaryWriter(
            str(folder / "tensorboard" / stage), purge_step=first_step + 1
        )

    def write(self, record: Mapping[str, Any]) -> None:
        """All numbers of one line of metrics, at its step."""
        try:
            for tag, value in _numbers(record):
                self._writer.add_scalar(tag, value, record["step"])
            self._writer.flush()
        except OSError as error:
            raise StorageError(
                error.errno, f"could not write TensorBoard events: {error}"
            ) from error

    def close(self) -> None:
        self._writer.close()


def _numbers(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, list):
            for at, item in enumerate(value):
                if isinstance(item, int | float):
                    yield f"{prefix}{key}/{at}", float(item)
        elif isinstance(value, int | float) and not (prefix == "" and key == "step"):
            yield prefix + key, float(value)
