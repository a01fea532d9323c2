"""A search on real processes: killed and interrupted at random, it ends as if nothing had been."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from epigram.search import History, ledger

ROOT = Path(__file__).resolve().parents[2]
TRIALS = 6

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for leftovers in /proc")


def begin(folder: Path) -> subprocess.Popen[bytes]:
    script = Path(__file__).with_name("killed_search.py")
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), str(TRIALS)],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        stderr=subprocess.DEVNULL,
    )


def told(folder: Path) -> int:
    if not (folder / ledger.LEDGER).exists():
        return 0
    return sum(event.type == "told" for event in ledger.read(folder))


def left(folder: Path) -> list[str]:
    """Processes that carry this study's name in their environment."""
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        try:
            if f"EPIGRAM_STUDY={folder}".encode() in (one / "environ").read_bytes().split(b"\0"):
                found.append((one / "cmdline").read_text())
        except OSError:
            continue
    return found


def proposals(folder: Path) -> list[dict[str, Any]]:
    return [dict(trial.values) for trial in History(ledger.read(folder)).search()]


def finished(folder: Path) -> History:
    done = begin(folder)
    assert done.wait(timeout=300) == 0
    return History(ledger.read(folder))


@pytest.mark.slow
def test_killed_at_random_it_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    whole = finished(tmp_path / "whole")
    assert whole.confirmed is not None
    folder, chance = tmp_path / "killed", random.Random(0)
    for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        driver = begin(folder)
        target = told(folder) + chance.randint(1, 2)
        while told(folder) < target and driver.poll() is None:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.1))
        driver.send_signal(how)
        assert driver.wait(timeout=60) in (-how, 128 + how, 0)
        deadline = time.monotonic() + 20
        while left(folder) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert left(folder) == []
    again = finished(folder)
    assert proposals(folder) == proposals(tmp_path / "whole")
    assert all(trial.finished for trial in again)
    assert again.confirmed is not None
    assert again.confirmed["run_id"] == whole.confirmed["run_id"]
