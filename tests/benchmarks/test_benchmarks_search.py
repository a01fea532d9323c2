"""The benchmarks of the search run, in seconds, and what they are made of does what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import digits_trials
import numpy as np
import pytest
import record
import search_ratios
import search_replay
from search_replay_table import Table

from epigram.records import Floor
from epigram.search import Objective


def test_a_trial_on_digits_learns_and_repeats_itself():
    one = digits_trials.run(digits_trials.SAFE, seed=0)
    assert one["accuracy"] > 0.9
    assert len(one["curve"]) == digits_trials.EPOCHS
    assert one["curve"][-1] == (round(one["accuracy"], 5), one["size_bytes"])
    assert digits_trials.run(digits_trials.SAFE, seed=0) == one
    coarse = digits_trials.run({**digits_trials.SAFE, "grid": 0.5}, seed=0)
    assert coarse["size_bytes"] < one["size_bytes"]


def test_a_trial_that_diverges_is_still_a_line_of_json():
    wild = digits_trials.run({**digits_trials.SAFE, "lr": 1e6}, seed=0)
    json.dumps(wild, allow_nan=False)
    assert wild["accuracy"] < 0.3


def table(count=8):
    generator = np.random.default_rng(0)
    trials = []
    for _ in range(count):
        values = digits_trials.SPACE.random(generator)
        accuracy, size = 0.9 + 0.1 * generator.random(), 1000 * generator.random() + 100
        curve = [(accuracy, size)] * 9
        trials.append({"values": values, "curve": curve, "accuracy": accuracy, "size_bytes": size})
    objective = Objective(Floor.parse("accuracy>=0.95"), margin=0.0)
    return Table("t", digits_trials.SPACE, objective, trials, 300, 2)


def test_a_replayed_search_spends_what_it_may_and_finds_the_best():
    known = table()
    run = search_replay.replay(known, "random", seed=0, trials=8)
    feasible = [t["size_bytes"] for t in known.trials if t["accuracy"] >= 0.95]
    assert run["best"] == min(feasible)
    assert run["trials"] == 8
    assert run["path"][-1][0] == 8 * known.steps
    half = search_replay.replay(known, "hyperband", seed=0, trials=4)
    assert half["trials"] >= 4
    assert half["path"][-1][0] <= 5 * known.steps


def test_ratios_have_their_interval():
    assert search_ratios.interval([]) == {"ratio": None, "n": 0}
    found = search_ratios.interval([np.log(0.5)] * 4)
    assert found["ratio"] == pytest.approx(0.5)
    assert found["low"] == pytest.approx(0.5)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["search_replay", "ledger_kills"])
def test_the_benchmark_runs_and_says_what_it_found(script, tmp_path):
    command = [sys.executable, str(record.ROOT / "benchmarks" / f"{script}.py")]
    environment = {**os.environ, "PYTHONPATH": str(record.ROOT / "src")}
    done = subprocess.run(
        [*command, "--quick", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    written = json.loads((tmp_path / "results" / f"{script}.json").read_text())
    assert written["benchmark"] == script
