"""A search on real processes, to be killed: ``killed_search.py FOLDER TRIALS`` runs or goes on."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.search import toy

from epigram.errors import EpigramError
from epigram.runner import LocalExecutor, processor_slots
from epigram.search import Command, Driver

TRIAL = """
import json, os, sys, time
folder = os.environ["EPIGRAM_TRIAL"]
asked = json.load(open(f"{folder}/config.json"))
with open(f"{folder}/metrics.jsonl", "a", buffering=1) as curve:
    for step in range(1, 6):
        time.sleep(0.02)
        line = {"step": step, "steps": 5, "accuracy": 0.9, "size_bytes": 100.0}
        curve.write(json.dumps(line) + chr(10))
found = {key: asked[key] for key in ("run_id", "attempt")}
width = asked["values"]["width"]
found |= {"accuracy": 0.99 - 1 / width, "size_bytes": 10.0 * width, "examples": 5000}
found |= {"confirmation": {"accuracy": 0.99 - 1 / width, "examples": 5000}}
with open(f"{folder}/result.tmp", "w") as file:
    json.dump(found, file)
os.replace(f"{folder}/result.tmp", f"{folder}/result.json")
"""


def main(folder: Path, trials: int) -> int:
    """Run a search, or go on with it; the exit code is that of the command line."""
    with (
        toy.open_study(folder, confirm=1, confirm_seeds=2) as study,
        LocalExecutor(str(folder), slots=processor_slots(1)) as executor,
    ):
        command = Command((sys.executable, "-S", "-c", TRIAL), grace_s=2.0)
        Driver(study, executor, command, trials=trials, pace_s=0.05).run()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
    except EpigramError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
