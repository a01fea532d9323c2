"""The LeNets on MNIST, from nothing to a decoded file: bytes, errors, counts, seconds, over seeds.

    python benchmarks/lenets.py [--recipe lenet-300-100/mnist ...] [--seeds 0 1 2] [--zoo]

Each recipe and seed runs in a process and a folder of its own, <out>/<recipe>/seed-<n>. The same command
again reads the finished ones and goes on with a killed one; --fresh deletes them first, which is needed
when a recipe has changed. Recipes that are not asked for stay in results/lenets.json as they were. The
test set is read once per run, and each read is logged in test_reads.jsonl. --zoo keeps the file of the
median seed (by bytes) in zoo/.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lenet_figures
import record
from preparing import (
    INTERRUPTED,
    add_fresh,
    common_flags,
    guarded,
    prepare,
    quick_recipe,
    start_fresh,
)

from epigram import atomic, recipes
from epigram.pipeline import compress_recipe

RECIPES = (
    "lenet-300-100/mnist",
    "lenet-300-100-conv/mnist",
    "lenet-5/mnist",
    "lenet-5-horseshoe/mnist",
)


def main() -> int:
    """Run what is missing, collect, print; 1 if a run failed."""
    arguments = parser().parse_args()
    folders = prepare(arguments)
    if arguments.child:
        return run_one(arguments.recipe[0], arguments.seeds[0], folders.runs, arguments)
    about = record.origin(seeds=arguments.seeds)
    failed: list[dict[str, Any]] = []
    for name in arguments.recipe:
        ended = {}
        for seed in arguments.seeds:
            ended[seed] = start_child(name, seed, folders.runs, arguments)
            if ended[seed] == INTERRUPTED:
                print("stopped in order; the same command goes on", file=sys.stderr)
                return INTERRUPTED
        failed += [
            {"recipe": name, "seed": seed, "exit_code": code}
            for seed, code in ended.items()
            if code
        ]
        done = [run_folder(folders.runs, name, seed) for seed, code in ended.items() if not code]
        collect(name, done, folders.results, about, failed)
    known = read_results(folders.results)["recipes"]
    print(lenet_figures.table(known))
    if arguments.zoo:
        zoo = folders.runs / "zoo" if arguments.quick else record.ROOT / "zoo"
        for name in arguments.recipe:
            if name in known:
                keep_median(name, known[name], folders.runs, zoo)
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = common_flags(__doc__ or "", out="runs/bench", seeds=(0, 1, 2))
    flags.add_argument("--recipe", nargs="+", default=list(RECIPES), choices=recipes.names())
    flags.add_argument("--zoo", action="store_true", help="keep the median seed's file in zoo/")
    add_fresh(flags)
    flags.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return flags


# --- one run, in a process of its own ---------------------------------------------------------


def start_child(name: str, seed: int, runs: Path, arguments: argparse.Namespace) -> int:
    """Run one recipe and seed in a process of its own; returns its exit code."""
    folder = run_folder(runs, name, seed)
    if arguments.fresh:
        start_fresh(folder)
        notes_beside(folder).unlink(missing_ok=True)
    command = [sys.executable, __file__, "--child", "--recipe", name, "--seeds", str(seed)]
    command += ["--threads", str(arguments.threads), "--out", str(runs)]
    command += ["--quick"] if arguments.quick else []
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    with subprocess.Popen(command, env=environment) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the child has had it too, and ends in order
            child.wait()
            return INTERRUPTED
        except SystemExit:  # we were asked to end; nobody else tells the child
            child.terminate()
            raise


def run_one(name: str, seed: int, runs: Path, arguments: argparse.Namespace) -> int:
    """Compress in this process, or read a finished run; logs the reading of the test set, once."""
    recipe = recipes.get(name)
    if arguments.quick:
        recipe = quick_recipe(recipe)
    settings = replace(recipe.settings, seed=seed)
    folder = run_folder(runs, name, seed)
    notes = read_json(notes_beside(folder), {"sessions": [], "logged": False})
    finished = (folder / "result.json").exists() and (folder / "model.epg").exists()
    if not finished:
        session = {**record.code_version(), "date": record.now(), "seconds": None}
        notes["sessions"].append(session)
        atomic.write_json(notes_beside(folder), notes)
    begin = time.perf_counter()
    print(f"{name}, seed {seed}", file=sys.stderr)
    result = compress_recipe(recipe, settings, folder, force=True)
    if not finished:
        notes["sessions"][-1]["seconds"] = round(time.perf_counter() - begin, 2)
    if not notes["logged"] and not arguments.quick:
        last = notes["sessions"][-1] if notes["sessions"] else {}
        code = {key: last.get(key) for key in ("commit", "dirty")}
        figure = lenet_figures.read_off(result)
        record.record_test_read(recipe=name, seed=seed, figure=figure, code=code)
    atomic.write_json(notes_beside(folder), {**notes, "logged": True})
    return 0


def notes_beside(folder: Path) -> Path:
    """What the benchmark notes about a run: its processes, and whether its test read is logged."""
    return folder.with_name(f"{folder.name}.notes.json")


def run_folder(runs: Path, name: str, seed: int) -> Path:
    """Where a recipe and seed run."""
    return runs / name / f"seed-{seed}"


# --- all runs ---------------------------------------------------------------------------------


def collect(
    name: str,
    finished: Sequence[Path],
    results: Path,
    about: Mapping[str, Any],
    failed: list[dict[str, Any]],
) -> None:
    """Put a recipe's finished runs into the results, beside the recipes that are there."""
    found = []
    for folder in finished:
        notes = read_json(notes_beside(folder), {"sessions": []})
        result = read_json(folder / "result.json", {})
        found.append(lenet_figures.of_run(folder, result, notes["sessions"]))
    known = read_results(results)["recipes"]
    if found:
        known[name] = lenet_figures.of_recipe(found)
    figures = {
        "recipes": {key: known[key] for key in sorted(known)},
        "linear_against_convolution": lenet_figures.linear_against_convolution(known),
        "failed": failed,
    }
    record.write_result("lenets", about, figures, folder=results)


def read_results(results: Path) -> dict[str, Any]:
    """What ``lenets.json`` says so far."""
    found: dict[str, Any] = read_json(results / "lenets.json", {"recipes": {}})
    return found


def read_json(path: Path, otherwise: Any) -> Any:
    """A JSON file's content, or ``otherwise`` where there is none."""
    return json.loads(path.read_text("utf-8")) if path.exists() else otherwise


def keep_median(name: str, figures: Mapping[str, Any], runs: Path, zoo: Path) -> None:
    """Copy the median seed's file and result, with the command that makes it, into the zoo."""
    seed = figures["median"]["seed"]
    folder = run_folder(runs, name, seed)
    stem = name.replace("/", "-")
    result = read_json(folder / "result.json", {})
    made = {
        "command": f"OMP_NUM_THREADS={result['environment']['threads']} epigram compress {name} "
        f"--seed {seed} --out runs/zoo/{stem}{'' if result['floor']['met'] else ' --force'}",
        "median_of_seeds": [run["seed"] for run in figures["runs"]],
        **{key: figures["median"][key] for key in ("commit", "dirty", "date")},
    }
    atomic.write_bytes(zoo / f"{stem}.epg", (folder / "model.epg").read_bytes())
    atomic.write_json(zoo / f"{stem}.json", {"made_by": made, **result})
    print(f"kept {stem}.epg: seed {seed}, {result['file_bytes']} bytes")


if __name__ == "__main__":
    sys.exit(guarded(main))
