"""Runs with a bits pass, resumable: one plain network per seed, shared by whatever starts from it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import record
from preparing import quick_recipe, start_fresh, without_test

from epigram import atomic, recipes
from epigram.pipeline import CompressSettings, compress_recipe, train_recipe
from epigram.train import read_config
from epigram.train.checkpoint import checkpoint_path

KEYS = (
    "file_bytes",
    "predicted_bytes",
    "test_error_percent",
    "dense_test_error_percent",
    "breakdown",
    "units",
    "seconds",
    "floor",
    "budget",
)


def plain_network(name: str, seed: int, runs: Path, arguments: argparse.Namespace) -> Path:
    """The folder of the seed's plain network, trained without a test set; read if it is there."""
    recipe = _recipe(name, arguments)
    folder = runs / "plain" / name / f"seed-{seed}"
    if arguments.fresh:
        start_fresh(folder)
    train_recipe(without_test(recipe), replace(recipe.settings, seed=seed), folder)
    return folder


def floor_folder(runs: Path, name: str, floor: str, seed: int) -> Path:
    """The folder of a recipe's run at a floor, for every benchmark that wants one."""
    return runs / f"{name.replace('/', '-')}-{floor.replace('>=', '-')}" / f"seed-{seed}"


def compressed(
    name: str,
    seed: int,
    folder: Path,
    arguments: argparse.Namespace,
    *,
    plain: Path,
    floor: str,
    settings: CompressSettings | None = None,
    reads_test: bool = True,
) -> dict[str, Any]:
    """One run from the shared plain network, or what a finished one says.

    Args:
        name: of the recipe.
        seed: of the run.
        folder: of the run.
        arguments: the common flags.
        plain: folder of the plain network. Another finished run beside ``folder``, of the same recipe and
            seed, may take its place: its structure pass is taken over if this run's would be the same.
        floor: what is asked.
        settings: other than the recipe's.
        reads_test: False takes the test set away; else its reading is logged, once.
    """
    recipe = _recipe(name, arguments)
    if not reads_test:
        recipe = without_test(recipe)
    if arguments.quick:
        floor = recipe.floor
    if arguments.fresh:
        start_fresh(folder)
    finished = (folder / "result.json").exists() and (folder / "model.epg").exists()
    print(f"{folder}: {'read' if finished else 'run'}", file=sys.stderr)
    code, begin = record.code_version(), time.perf_counter()
    used = replace(settings or recipe.settings, seed=seed)
    source = next(_passed(folder, recipe.name, floor), plain)
    result = compress_recipe(recipe, used, folder, floor=floor, from_folder=source, force=True)
    notes = folder.with_name(f"{folder.name}.notes.json")
    if not finished:
        atomic.write_json(
            notes, {**code, "date": record.now(), "session_seconds": time.perf_counter() - begin}
        )
        if reads_test and not arguments.quick:
            figure = {k: result.get(k) for k in ("file_bytes", "test_error_percent")}
            asked = f"{name} {floor}"
            record.record_test_read(recipe=asked, seed=seed, figure=figure, code=code)
    return {"seed": seed, **{key: result[key] for key in KEYS if key in result}}


def _passed(folder: Path, name: str, floor: str) -> Iterator[Path]:
    """Finished runs of the recipe beside ``folder``, of the same seed, that had a structure pass; the same floor's first."""
    others = sorted(folder.parent.parent.glob(f"*/{folder.name}"))
    for other in sorted(others, key=lambda other: not _asked(other, floor)):
        finished = other / "result.json"
        if other == folder or not checkpoint_path(other, "structure").exists():
            continue
        if finished.exists() and json.loads(finished.read_text("utf-8"))["recipe"] == name:
            yield other


def _asked(folder: Path, floor: str) -> bool:
    return (folder / "config.json").exists() and read_config(folder)["config"]["floor"] == floor


def spread(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The median run by bytes, and the range of bytes and errors."""
    found: dict[str, Any] = {
        "median": record.median_by_bytes(runs),
        "bytes": record.summary([run["file_bytes"] for run in runs]),
        "floors_met": sum(bool(run["floor"]["met"]) for run in runs),
    }
    errors = [run["test_error_percent"] for run in runs if "test_error_percent" in run]
    if errors:
        found["test_error_percent"] = record.summary(errors)
    return {**found, "runs": list(runs)}


def _recipe(name: str, arguments: argparse.Namespace) -> recipes.Recipe:
    recipe = recipes.get(name)
    return quick_recipe(recipe) if arguments.quick else recipe
