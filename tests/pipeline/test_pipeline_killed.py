"""Killed with SIGKILL at random moments, a run ends with the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def history(folder: Path) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    timed = {"seconds", "step_ms"}
    return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in lines]


def test_a_killed_run_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed_compress.py")), whole, killed, "0"],
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 2  # killed in the middle, not after it was done
    assert (killed / "model.epg").read_bytes() == (whole / "model.epg").read_bytes()
    assert history(killed) == history(whole)
    first, second = (json.loads((f / "result.json").read_text()) for f in (whole, killed))
    measured = {"seconds", "latency_ms", "load_ms", "peak_rss_bytes"}
    assert {k: v for k, v in first.items() if k not in measured} == {
        k: v for k, v in second.items() if k not in measured
    }
