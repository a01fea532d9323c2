"""What a run left in its folder, read once. Nothing here is required to exist but the folder.

A torn last line of ``metrics.jsonl`` or a torn frame (the run was killed while writing) is skipped and
noted; a damaged ``result.json`` or ``config.json`` is an error, because a page would be wrong without it.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from epigram.errors import ConfigError, DataError

Record: TypeAlias = Mapping[str, object]
Array: TypeAlias = NDArray[np.generic]

_FRAME = re.compile(r"^(?P<stage>.+)-(?P<epoch>\d+)\.npz$")
_TRACES = ("result.json", "config.json", "metrics.jsonl")


@dataclass(frozen=True)
class Frame:
    """Where the weights of one epoch lie."""

    stage: str
    epoch: int
    path: Path


@dataclass(frozen=True)
class Run:
    """A run folder in memory; the frames stay on disk until a movie asks for them."""

    folder: Path
    config: Record = field(default_factory=dict)
    result: Record = field(default_factory=dict)
    history: tuple[Record, ...] = ()
    frames: tuple[Frame, ...] = ()
    data: Mapping[str, Array] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages in the order in which they ran."""
        return tuple(dict.fromkeys(str(line.get("stage", "training")) for line in self.history))

    @property
    def recipe(self) -> str | None:
        """The recipe's name, from the result or, while the run is not finished, from the settings."""
        return text(self.result, "recipe") or text(self.settings, "recipe")

    @property
    def settings(self) -> Record:
        """The settings by themselves, with dotted names; without identity and environment."""
        return settings_of(self.config)

    @property
    def num_train_examples(self) -> float | None:
        """How many examples were fitted: what one nat of KL is shared by."""
        sizes = record(self.result, "splits")
        fit = sizes.get("fit")
        return number({"n": fit}, "n") if not isinstance(fit, Mapping) else split_size(fit)


def at(source: object, *path: str) -> object:
    """The value under ``path``; None where there is none."""
    for key in path:
        if not isinstance(source, Mapping):
            return None
        source = source.get(key)
    return source


def number(source: object, *path: str) -> float | None:
    """A finite number under ``path``; None for anything else (a truth value is not a number)."""
    value = at(source, *path)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if np.isfinite(value) else None


def text(source: object, *path: str) -> str | None:
    """A non-empty text under ``path``."""
    value = at(source, *path)
    return value if isinstance(value, str) and value else None


def record(source: object, *path: str) -> Record:
    """A mapping under ``path``; an empty one for anything else."""
    value = at(source, *path)
    return cast(Record, value) if isinstance(value, Mapping) else {}


def split_size(split: Record) -> float | None:
    """The number of examples of a split's entry, whichever of the usual names it goes by."""
    sizes = (number(split, name) for name in ("size", "n", "examples", "count"))
    return next((size for size in sizes if size is not None), None)


def before_after(entry: object) -> tuple[float | None, float | None]:
    """``{"before": b, "after": a}`` or ``[b, a]``."""
    if isinstance(entry, list | tuple) and len(entry) == 2:
        return number({"v": entry[0]}, "v"), number({"v": entry[1]}, "v")
    return number(entry, "before"), number(entry, "after")


def flatten(source: Record, prefix: str = "") -> dict[str, object]:
    """Nested settings with dotted names: ``{"train": {"epochs": 3}}`` is ``{"train.epochs": 3}``."""
    flat: dict[str, object] = {}
    for key, value in source.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(flatten(cast(Record, value), f"{name}."))
        else:
            flat[name] = value
    return flat


def settings_of(config: Record) -> Record:
    """Flat settings of a ``config.json``: ``{"config": {"settings": {"seed": 0}}}`` is ``seed``."""
    inner = record(config, "config") or config
    flat = flatten(inner)
    return {
        name.removeprefix("settings."): value
        for name, value in flat.items()
        if name.split(".")[0] not in ("identity", "environment")
    }


def read_run(folder: Path) -> Run:
    """Read a run's folder.

    Raises:
        ConfigError: the folder does not exist, or holds no trace of a run.
        DataError: ``result.json`` or ``config.json`` is damaged.
    """
    if not folder.is_dir():
        raise ConfigError(f"report: no folder {folder}; give the folder that --out named")
    if not any((folder / name).is_file() for name in _TRACES):
        raise ConfigError(
            f"report: {folder} is not a run's folder: it has none of {', '.join(_TRACES)}; "
            "give the folder that --out named"
        )
    notes: list[str] = []
    history = _read_history(folder / "metrics.jsonl", notes)
    stages = dict.fromkeys(str(line.get("stage", "training")) for line in history)
    return Run(
        folder=folder,
        config=_read_json(folder / "config.json"),
        result=_read_json(folder / "result.json"),
        history=history,
        frames=_find_frames(folder / "frames", tuple(stages)),
        data=read_arrays(folder / "report_data.npz", notes),
        notes=tuple(notes),
    )


def _read_json(path: Path) -> Record:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            f"{path}: got text that is not JSON ({error}), expected what a run writes; "
            "run the command again to write it anew"
        ) from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: got {type(content).__name__}, expected a JSON object")
    return content


def _read_history(path: Path, notes: list[str]) -> tuple[Record, ...]:
    """One record per stage and epoch; of an epoch that was run twice the later one counts."""
    if not path.is_file():
        return ()
    lines: dict[tuple[str, object], Record] = {}
    torn = 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except ValueError:
            torn += 1
            continue
        if isinstance(content, dict):
            lines[(str(content.get("stage", "training")), content.get("epoch"))] = content
        else:
            torn += 1
    if torn:
        notes.append(f"{torn} line(s) of metrics.jsonl could not be read and were skipped.")
    return tuple(lines.values())


def _find_frames(folder: Path, stages: tuple[str, ...]) -> tuple[Frame, ...]:
    """Frames in the order of the stages in the history, then by epoch; unknown stages come last."""
    frames: list[Frame] = []
    for path in sorted(folder.glob("*.npz")) if folder.is_dir() else ():
        match = _FRAME.match(path.name)
        if match:
            frames.append(Frame(match["stage"], int(match["epoch"]), path))
    order = {stage: place for place, stage in enumerate(stages)}
    frames.sort(key=lambda f: (order.get(f.stage, len(order)), f.stage, f.epoch))
    return tuple(frames)


def read_arrays(
    path: Path, notes: list[str], *, names: Iterable[str] | None = None
) -> dict[str, Array]:
    """The arrays of an ``.npz`` (all, or those ``names`` that are there); no pickles, ever."""
    if not path.is_file():
        return {}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            wanted = archive.files if names is None else [n for n in names if n in archive.files]
            return {name: archive[name] for name in wanted}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError):
        notes.append(f"{path.name} could not be read and was skipped.")
        return {}
