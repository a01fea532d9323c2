"""Five floors on LeNet-5, three seeds each, every file from one run: is what was asked what one gets?

    python benchmarks/floors.py [--floors 0.986 ...] [--seeds 0 1 2]

The floor is all that differs between the runs; each seed has one plain network. What is checked:
every file meets its floor on validation, or its run says that it does not; of the test errors at most
two lie outside the 95 % binomial band around the floor's; the medians make a monotone curve. The test
set is read once per run, from the decoded file. Finished runs are read; --fresh deletes them first.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import bits_runs
import floors_picture
import record
from preparing import add_fresh, common_flags, guarded, prepare

from epigram import atomic

RECIPE = "lenet-5-bits/mnist"
FLOORS = (0.986, 0.988, 0.990, 0.991, 0.993)
TEST_EXAMPLES = 10_000
MOST_OUTSIDE = 2


def main() -> int:
    """Run what is missing, check, draw; 1 if a check fails."""
    flags = common_flags(__doc__ or "", out="runs/bench-bits", seeds=(0, 1, 2))
    add_fresh(flags)
    flags.add_argument("--floors", type=float, nargs="+", default=list(FLOORS))
    arguments = flags.parse_args()
    folders = prepare(arguments)
    about = record.origin(seeds=arguments.seeds)
    plain = {
        s: bits_runs.plain_network(RECIPE, s, folders.runs, arguments) for s in arguments.seeds
    }
    found: dict[str, Any] = {}
    for floor in arguments.floors:
        asked = f"accuracy>={floor:g}"
        runs = [
            bits_runs.compressed(
                RECIPE,
                seed,
                bits_runs.floor_folder(folders.runs, RECIPE, asked, seed),
                arguments,
                plain=plain[seed],
                floor=asked,
            )
            for seed in arguments.seeds
        ]
        found[f"{floor:g}"] = bits_runs.spread(runs)
        checks = checked(found)
        record.write_result(
            "floors", about, {"floors": found, "checks": checks}, folder=folders.results
        )
    atomic.write_bytes(folders.results / "floors.png", floors_picture.draw(found))
    print(table(found))
    failed = [name for name, held in checks["held"].items() if not held]
    print(f"not held: {', '.join(failed)}" if failed else "all checks hold")
    return 1 if failed and not arguments.quick else 0


def checked(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the files have to show, with the figures behind it."""
    outside = []
    for floor, figures in found.items():
        low, high = band(100.0 * (1.0 - float(floor)))
        outside += [
            {"floor": floor, "seed": run["seed"], "test_error_percent": run["test_error_percent"]}
            for run in figures["runs"]
            if not low <= run["test_error_percent"] <= high
        ]
    medians = [figures["median"]["file_bytes"] for _, figures in sorted(found.items(), key=_number)]
    missed = sum(len(f["runs"]) - f["floors_met"] for f in found.values())
    return {
        "outside_band": outside,
        "floors_missed_and_said": missed,
        "median_bytes": medians,
        "held": {
            "at most two test errors outside the band": len(outside) <= MOST_OUTSIDE,
            "the medians are monotone": medians == sorted(medians),
            "every floor is met on validation, or said not to be": all(
                run["floor"]["met"] == (run["floor"]["validation_value"] >= float(floor))
                for floor, figures in found.items()
                for run in figures["runs"]
            ),
        },
    }


def band(error_percent: float) -> tuple[float, float]:
    """Per cent of wrong answers among the test images, 95 % of the time, if this is their rate."""
    share = error_percent / 100.0
    half = 196.0 * math.sqrt(share * (1.0 - share) / TEST_EXAMPLES)
    return error_percent - half, error_percent + half


def table(found: Mapping[str, Any]) -> str:
    """A line per floor."""
    lines = [f"{'floor':>8}{'bytes (range)':>22}{'test error, %':>16}{'met':>7}"]
    for floor, figures in found.items():
        sizes, median = figures["bytes"], figures["median"]
        lines.append(
            f"{floor:>8}{median['file_bytes']:>9} ({sizes['min']}-{sizes['max']})"
            f"{median['test_error_percent']:>16.2f}{figures['floors_met']:>4}/{len(figures['runs'])}"
        )
    return "\n".join(lines)


def _number(item: tuple[str, Any]) -> float:
    return float(item[0])


if __name__ == "__main__":
    sys.exit(guarded(main))
