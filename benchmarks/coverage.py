"""Which networks can be compressed: convert, train a step, remove units, verify, train on, export.

    python benchmarks/coverage.py [--suite classification timm ...] [--only GLOB] [--limit SECONDS]

Every network runs in a process of its own (a fork of one that has imported everything) with a time
limit. Per network: weights that start as constants (a normalisation's, a layer scale's) are drawn at
random, so that every branch is heard; the structure is analysed; the network is converted to its twin,
whose eval() must equal it; one ELBO step; about 30 % of the units of every group are removed; the small
plain network must equal the masked one on fresh inputs, in double precision, and both must differ from
the network as it was; one training step of the small network; export to ONNX, where the export of the
original works. Noted are the processor seconds of each step, peak memory, what was left whole and why.
``ok`` needs every step but the export, and something removed; ``wrong`` means that a small network
computes something else than the masked one and nobody said so: there must be none.

The same command goes on where it stopped: finished networks are read from <out>/coverage/. --fresh runs
them again. Results: results/coverage.json, of all networks that have been run, whatever was asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import record
import torch
from coverage_models import SUITES, Case, cases
from coverage_network import blank, child, onnx
from preparing import add_fresh, common_flags, guarded, prepare
from torch import nn

from epigram import atomic
from epigram.convert import bayesianize

PATIENCE = 20
PACKAGES = ("torchvision", "timm", "transformers", "onnx", "onnxscript")
LIBRARIES = ("torchvision", "timm", "transformers", "onnxscript", "torch.onnx", "torch.export")


def main() -> int:
    """Run what is missing, collect, print; 1 if anything was wrong."""
    arguments = parser().parse_args()
    folders = prepare(arguments)
    about = record.origin(seeds=arguments.seeds, packages=PACKAGES)
    chosen = in_order(cases(arguments.suite), arguments.only)
    chosen = chosen[:3] if arguments.quick else chosen
    notes = folders.runs / "coverage"
    missing = [c for c in chosen if arguments.fresh or not (notes / f"{c.key}.json").exists()]
    if missing:
        warm_up()
    for number, case in enumerate(missing):
        print(f"{number + 1}/{len(missing)} {case.key}", end=" ", file=sys.stderr, flush=True)
        path = notes / f"{case.key}.json"
        run_child(case, path, arguments)
        print(verdict(read(path)), file=sys.stderr, flush=True)
    paths = [notes / f"{c.key}.json" for c in cases(list(SUITES))]
    found = [read(path) for path in paths if path.exists()]
    figures = {"suites": summaries(found), "networks": found}
    record.write_result("coverage", about, figures, folder=folders.results)
    print(table(figures["suites"]))
    return 1 if any(n["outcome"] == "wrong" for n in found) else 0


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = common_flags(__doc__ or "", out="runs/bench-coverage")
    flags.add_argument("--suite", nargs="+", default=list(SUITES), choices=list(SUITES))
    flags.add_argument(
        "--only", nargs="+", default=["*"], help="globs over suite/name; run in this order"
    )
    flags.add_argument(
        "--without-onnx", action="store_true", help="leave out the export, half of the time"
    )
    flags.add_argument(
        "--limit", type=float, default=300.0, help="processor seconds for one network"
    )
    add_fresh(flags)
    return flags


def in_order(found: Sequence[Case], globs: Sequence[str]) -> list[Case]:
    """The cases that any of the globs fits, those of the first glob first."""
    fitting = {c.key: c for g in globs for c in found if fnmatchcase(c.key, g)}
    return list(fitting.values())


def warm_up() -> None:
    """Import everything and use it once; the children are forks of this process.

    No gradients: autograd's threads do not survive a fork.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")
    for library in LIBRARIES:
        with contextlib.suppress(ImportError):  # its suite says so
            importlib.import_module(library)
    model, image = _tiny().eval(), torch.randn(2, 3, 8, 8)
    bayesianize(model, image)
    onnx(model, (image,))
    gc.freeze()


def _tiny() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
    )


def run_child(case: Case, path: Path, arguments: argparse.Namespace) -> None:
    """One network in a process of its own; its note says how far it came, whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    log, limit = path.with_suffix(".log"), arguments.limit
    begin = time.monotonic()
    for method in ("fork", "spawn"):  # some of torch's threads do not survive a fork: then afresh
        process = multiprocessing.get_context(method).Process(
            target=child,
            args=(case, path, log, limit),
            kwargs={"export": not arguments.without_onnx},
        )
        process.start()
        try:
            process.join(PATIENCE * limit)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            process.kill()
            process.join()
        if process.exitcode != -signal.SIGABRT:
            break
    note = read(path) if path.exists() else blank(case)
    if process.exitcode:
        late = process.exitcode in (-signal.SIGXCPU, -signal.SIGKILL)
        said = last_line(log.read_bytes()) if log.exists() else ""
        reason = f"longer than {limit:g} s" if late else f"exit code {process.exitcode}: {said}"
        note |= {"outcome": "failed", "reason": reason, "failed_in": note["at"]}
    note["wall_seconds"] = round(time.monotonic() - begin, 2)
    atomic.write_json(path, {**note, **record.code_version()})


def last_line(text: bytes) -> str:
    """The last line that says something."""
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else ""


def read(path: Path) -> dict[str, Any]:
    """A network's note."""
    note: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return note


def verdict(note: Mapping[str, Any]) -> str:
    """One network in a line."""
    where = f" in {note['failed_in']}: {note['reason']}" if note.get("failed_in") else ""
    units = note.get("units", {})
    return f"{note['outcome']}{where} {units} {sum(note['seconds'].values()):.0f} s"


def summaries(found: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per suite: how many came through, how many shrank, how many were wrong."""
    out: dict[str, dict[str, Any]] = {}
    for suite in dict.fromkeys(note["suite"] for note in found):
        notes = [note for note in found if note["suite"] == suite]
        good = [n for n in notes if n["outcome"] == "ok"]
        out[suite] = {
            "networks": len(notes),
            "ok": len(good),
            "ok_share": round(len(good) / len(notes), 4),
            "listed": len(cases([suite])) if suite in SUITES else len(notes),
            "wrong": sum(n["outcome"] == "wrong" for n in notes),
            "onnx": sum(n.get("onnx") == "ok" for n in notes),
            "onnx_of_original": sum(n.get("onnx_of_original") == "ok" for n in notes),
            "onnx_not_tried": sum(n["outcome"] == "ok" and "onnx" not in n for n in notes),
            "parameters_removed": record.summary([n["removed_share"] for n in good])
            if good
            else None,
            "peak_rss_gigabytes": record.summary([n["peak_rss_bytes"] / 1e9 for n in good])
            if good
            else None,
            "analyse_seconds": record.summary([n["seconds"]["analyse"] for n in good])
            if good
            else None,
            "not_ok": [
                f"{n['name']}: {n.get('failed_in')}: {n.get('reason')}"
                for n in notes
                if n not in good
            ],
        }
    return out


def table(suites: Mapping[str, Mapping[str, Any]]) -> str:
    """A line per suite."""
    lines = [
        f"{'':<18}{'networks':>10}{'ok':>6}{'wrong':>8}{'ONNX':>12}{'removed':>10}{'analyse':>12}"
    ]
    for name, s in suites.items():
        removed = s["parameters_removed"]["median"] if s["ok"] else 0.0
        seconds = s["analyse_seconds"]["median"] if s["ok"] else 0.0
        lines.append(
            f"{name:<18}{s['networks']:>10}{s['ok']:>6}{s['wrong']:>8}"
            f"{s['onnx']:>6} of {s['onnx_of_original']:<3}{removed:>8.0%}{seconds:>10.1f} s"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(guarded(main))
