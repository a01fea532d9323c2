"""The files to show: LeNet-5 at three errors and LeNet-300-100 at one, everything counted, over seeds.

    python benchmarks/bits.py [--files lenet-5-mnist-095 ...] [--seeds 0 1 2] [--zoo]

Each run names a floor and nothing else. Floors are on validation, whose images are harder: by 0.35 points for the plain
LeNet-5, but by 0.06 in the mean of seven files of 0.89 to 1.11 %, since the smallest file that meets a floor there owes
some of that to luck. LeNet-5's floors are among those of ``floors.py``, and so are its runs: whichever of the two comes
first makes them. The test set is read once per run, from the decoded file, and each read is logged. --zoo keeps the
median seed's file (by bytes). Finished runs are read; --fresh deletes them first.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bits_runs
import record
from lenets import read_json
from preparing import add_fresh, common_flags, guarded, prepare

from epigram import atomic


@dataclass(frozen=True)
class Wanted:
    """A file to show: recipe, floor on validation, and what it is to reach on the test set."""

    recipe: str
    floor: str
    most_bytes: int
    most_error_percent: float


FILES = {
    "lenet-5-mnist-095": Wanted("lenet-5-bits/mnist", "accuracy>=0.99", 900, 0.95),
    "lenet-5-mnist-080": Wanted("lenet-5-bits/mnist", "accuracy>=0.991", 1300, 0.80),
    "lenet-5-mnist-070": Wanted("lenet-5-bits/mnist", "accuracy>=0.993", 2200, 0.70),
    "lenet-300-100-mnist-180": Wanted("lenet-300-100-bits/mnist", "accuracy>=0.982", 5000, 1.8),
}


def main() -> int:
    """Run what is missing, compare with the aims, keep the files."""
    flags = common_flags(__doc__ or "", out="runs/bench-bits", seeds=(0, 1, 2))
    add_fresh(flags)
    flags.add_argument("--files", nargs="+", default=list(FILES), choices=list(FILES))
    flags.add_argument("--zoo", action="store_true", help="keep the median seed's files in zoo/")
    arguments = flags.parse_args()
    folders = prepare(arguments)
    about = record.origin(seeds=arguments.seeds)
    found: dict[str, Any] = read_json(folders.results / "bits.json", {"files": {}})["files"]
    for name in arguments.files:
        found[name] = of_file(name, folders.runs, arguments)
        record.write_result("bits", about, {"files": found}, folder=folders.results)
        if arguments.zoo:
            zoo = folders.runs / "zoo" if arguments.quick else record.ROOT / "zoo"
            keep(name, found[name], folders.runs, zoo)
    print(table(found))
    return 0


def of_file(name: str, runs: Path, arguments: Any) -> dict[str, Any]:
    """All seeds of one file, and whether the median reaches its aim."""
    wanted = FILES[name]
    made = []
    for seed in arguments.seeds:
        plain = bits_runs.plain_network(wanted.recipe, seed, runs, arguments)
        folder = bits_runs.floor_folder(runs, wanted.recipe, wanted.floor, seed)
        made.append(
            bits_runs.compressed(
                wanted.recipe,
                seed,
                folder,
                arguments,
                plain=plain,
                floor=wanted.floor,
            )
        )
    figures = bits_runs.spread(made)
    median = figures["median"]
    reached = (
        median["file_bytes"] <= wanted.most_bytes
        and median["test_error_percent"] <= wanted.most_error_percent
    )
    aim = {"bytes": wanted.most_bytes, "test_error_percent": wanted.most_error_percent}
    return {
        "recipe": wanted.recipe,
        "floor": wanted.floor,
        "aim": aim,
        "reached": reached,
        **figures,
    }


def keep(name: str, figures: Mapping[str, Any], runs: Path, zoo: Path) -> None:
    """The median seed's file and result, with the command that makes it."""
    seed = figures["median"]["seed"]
    folder = bits_runs.floor_folder(runs, figures["recipe"], figures["floor"], seed)
    result = read_json(folder / "result.json", {})
    command = (
        f"epigram compress {figures['recipe']} --floor '{figures['floor']}' --seed {seed} "
        f"--out runs/zoo/{name} --force"
    )
    seeds = [run["seed"] for run in figures["runs"]]
    made = {"command": command, "median_of_seeds": seeds}
    made |= read_json(folder.with_name(f"{folder.name}.notes.json"), {})
    atomic.write_bytes(zoo / f"{name}.epg", (folder / "model.epg").read_bytes())
    atomic.write_json(zoo / f"{name}.json", {"made_by": made, **result})


def table(found: Mapping[str, Any]) -> str:
    """A line per file."""
    lines = [f"{'file':<26}{'bytes (range)':>20}{'aim':>7}{'test error, %':>15}{'aim':>7}"]
    for name, figures in found.items():
        median, sizes = figures["median"], figures["bytes"]
        lines.append(
            f"{name:<26}{median['file_bytes']:>8} ({sizes['min']}-{sizes['max']})"
            f"{figures['aim']['bytes']:>7}{median['test_error_percent']:>15.2f}"
            f"{figures['aim']['test_error_percent']:>7.2f}"
            f"{'' if figures['reached'] else '   not reached'}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(guarded(main))
