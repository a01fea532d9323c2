"""Benchmarks that are made of cells: each is measured once, and then kept in the results.

A cell is one contestant at one seed. Its figures go into ``results/<name>.json`` as soon as it is
finished, with the commit it was made by; the same command again measures what is not there yet, whoever
starts it and wherever. Cells that were planned and are not there are named under ``missing``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import record

from epigram.config import differences
from epigram.errors import ConfigError

Cell = dict[str, Any]
Summarise = Callable[[Mapping[str, Cell]], Mapping[str, Any]]


class Cells:
    """The cells of one benchmark.

    Args:
        name: of the benchmark.
        about: its ``origin``.
        settings: what all cells share; cells of other settings are not mixed with these.
        planned: the keys of the cells asked for, in the order in which they are measured; those that an
            earlier call planned and has not finished stay planned.
        folder: where results go.
        summarise: figures over all finished cells, written beside them.
        fresh: forget cells of other settings instead of refusing.
        apart: each of the settings concerns those cells only whose keys begin with its name and a slash; names that
            only this call or an earlier one has are no difference.

    Attributes:
        asked: what this call is to measure.
        done: every finished cell.

    Raises:
        ConfigError: the results hold cells of other settings.
    """

    def __init__(
        self,
        name: str,
        *,
        about: Mapping[str, Any],
        settings: Mapping[str, Any],
        planned: Sequence[str],
        folder: Path,
        summarise: Summarise = lambda _: {},
        fresh: bool = False,
        apart: bool = False,
    ) -> None:
        self.name, self.about, self.folder = name, about, folder
        self.settings = json.loads(json.dumps(settings, allow_nan=False))
        self.asked, self.summarise = list(planned), summarise
        self.planned = list(planned)
        self.done: dict[str, Cell] = {}
        known = self._known()
        if not known:
            return
        before, cells, missing = known["settings"], known["cells"], known["missing"]
        if apart:
            before, self.settings = {**self.settings, **before}, {**before, **self.settings}
        if before != self.settings and cells and not fresh:
            changed = differences(before, self.settings)
            raise ConfigError(
                f"{folder / name}.json: holds {len(cells)} cells of other settings: {changed}; "
                "expected the same ones, or --fresh to begin anew"
            )
        if before != self.settings:
            names = [n for n in self.settings if apart and before[n] == self.settings[n]]
            same = tuple(f"{n}/" for n in names)
            cells = {key: cell for key, cell in cells.items() if key.startswith(same)}
            missing = [key for key in missing if key.startswith(same)]
        self.done = cells
        self.planned += [key for key in missing if key not in self.planned]

    def measure(self, key: str, work: Callable[[], Cell]) -> Cell:
        """The cell's figures, from the results if it is finished."""
        if key not in self.done:
            print(f"{self.name}: {key}", file=sys.stderr)
            begin, code = time.perf_counter(), record.code_version()
            found = work()
            took = round(time.perf_counter() - begin, 2)
            self.done[key] = {**found, **code, "date": record.now(), "wall_seconds": took}
            self.write()
        return self.done[key]

    def write(self) -> None:
        """What is finished, what is missing, and the summary."""
        order = [*self.planned, *(key for key in self.done if key not in self.planned)]
        done = {key: self.done[key] for key in order if key in self.done}
        figures = {
            "settings": self.settings,
            "missing": [key for key in self.planned if key not in self.done],
            **self.summarise(done),
            "cells": done,
        }
        record.write_result(self.name, self.about, figures, folder=self.folder)

    def _known(self) -> dict[str, Any]:
        path = self.folder / f"{self.name}.json"
        found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        return found


def spreads(
    cells: Mapping[str, Cell], keys: Sequence[str], *, name: Callable[[str], str]
) -> dict[str, Any]:
    """Per group of cells, the spread of each figure that is a number.

    Args:
        cells: the finished ones.
        keys: of the figures.
        name: from a cell's key to its group's name (leave out the seed).
    """
    groups: dict[str, list[Cell]] = {}
    for key, cell in cells.items():
        groups.setdefault(name(key), []).append(cell)
    return {
        group: {
            key: record.summary(values) if values else None
            for key in keys
            for values in [[c[key] for c in members if isinstance(c.get(key), int | float)]]
        }
        for group, members in groups.items()
    }


def with_test_drop(cells: Mapping[str, Cell], reference: str) -> dict[str, Cell]:
    """The cells, and by how many points each is below the reference of its seed on the test set, where it was read.

    Args:
        cells: the finished ones; keys end in ``/seed-N``.
        reference: the name of the cell that all are compared with.
    """
    found = {}
    for key, cell in cells.items():
        start = cells.get(f"{reference}/{key.partition('/')[2]}", {}).get("test_accuracy")
        found[key] = dict(cell)
        if start is not None and "test_accuracy" in cell:
            drop = round(100 * (start - cell["test_accuracy"]), 3)
            found[key]["test_points_below_adapted"] = drop
    return found
