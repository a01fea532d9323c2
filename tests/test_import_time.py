"""What must not be imported is not: a file is inspected where torch is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from epigram import codec
from epigram.records import FileContents, RawTensor

HIDE = """
import importlib.abc, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
"""
TORCH = {"torch", "torchvision"}
HEAVY = TORCH | {"matplotlib", "tensorboard", "scipy", "sklearn", "rich"}


def run_without(hidden: set[str], code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HIDE.format(hidden=hidden) + code],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_hiding_place_works() -> None:
    assert "No module named 'torch'" in run_without(TORCH, "import torch").stderr


@pytest.mark.parametrize("profile", ["named", "bare"])
def test_inspect_needs_neither_torch_nor_pictures(profile: str, tmp_path: Path) -> None:
    path = tmp_path / "a.epg"
    tensor = RawTensor("weight", (3,), np.arange(3, dtype=np.float32))
    path.write_bytes(codec.encode(FileContents((tensor,)), profile=profile))  # type: ignore[arg-type]
    code = f"from epigram.cli import main; sys.exit(main(['inspect', {str(path)!r}, '--json']))"
    done = run_without(HEAVY, code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["file_bytes"] == path.stat().st_size


def test_unpack_of_a_named_file_needs_no_torch(tmp_path: Path) -> None:
    path, out = tmp_path / "a.epg", tmp_path / "a.safetensors"
    tensor = RawTensor("weight", (3,), np.arange(3, dtype=np.float32))
    path.write_bytes(codec.encode(FileContents((tensor,)), profile="named"))
    arguments = ["unpack", str(path), "--out", str(out)]
    done = run_without(TORCH, f"from epigram.cli import main; sys.exit(main({arguments!r}))")
    assert done.returncode == 0, done.stderr
    assert out.is_file()


@pytest.mark.parametrize(
    "module",
    [
        "epigram",
        "epigram.codec",
        "epigram.records",
        "epigram.config",
        "epigram.report",
        "epigram.runner.local",
    ],
)
def test_rooms_that_promise_it_do_without_torch(module: str) -> None:
    done = run_without(TORCH, f"import {module}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["--help", "compress", "train", "evaluate", "replay", "search"])
def test_help_is_quick_because_it_imports_nothing_heavy(command: str) -> None:
    arguments = [command] if command == "--help" else [command, "--help"]
    done = run_without(HEAVY, f"from epigram.cli import main; sys.exit(main({arguments!r}))")
    assert done.returncode == 0, done.stderr
    assert "usage: epigram" in done.stdout


def test_importing_epigram_changes_no_state() -> None:
    code = (
        "import logging, os, random, signal, sys, warnings\n"
        "def state(): return (list(sys.path), dict(os.environ), random.getstate(), "
        "list(warnings.filters), signal.getsignal(signal.SIGINT), logging.root.handlers[:])\n"
        "before = state(); import epigram; assert state() == before"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
