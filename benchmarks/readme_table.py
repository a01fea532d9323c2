"""The README's table of measured results, from the JSON that the benchmarks left.

    python benchmarks/readme_table.py [--check]

Replaces what stands between the two ``measured`` markers of README.md; --check only says whether it is
already what the results say (exit code 1 if not).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- measured:begin[^\n]*-->\n).*?(<!-- measured:end -->)", re.DOTALL)
NAMES = {
    "lenet-300-100/mnist": "LeNet-300-100, normal-Jeffreys",
    "lenet-300-100-conv/mnist": "the same as 1×1 convolutions",
    "lenet-5/mnist": "LeNet-5-Caffe, normal-Jeffreys",
    "lenet-5-horseshoe/mnist": "LeNet-5-Caffe, horseshoe",
}


def main() -> int:
    """Write the table, or check it."""
    parser = argparse.ArgumentParser(description="The README's table of measured results.")
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    path = ROOT / "README.md"
    text = path.read_text("utf-8")
    new = with_table(text, ROOT / "benchmarks" / "results")
    if check:
        return int(new != text)
    path.write_text(new, "utf-8")
    return 0


def with_table(readme: str, results: Path) -> str:
    """The README with the tables that the results make."""
    block = "\n".join(
        [*lenets(_read(results / "lenets.json")), "", *steps(_read(results / "step_time.json"))]
    )
    return BLOCK.sub(lambda found: f"{found[1]}{block}\n{found[2]}", readme)


def lenets(result: Mapping[str, Any]) -> list[str]:
    """One row per recipe: the median seed's file, and the range over the seeds."""
    lines = [
        (
            "| network, prior | original, bytes | file, bytes (least–largest) | factor | test error, % (original) "
            "| counts, not bytes: architecture / with uncertainty (error at that precision, %) |"
        ),
        "|---|---|---|---|---|---|",
    ]
    for recipe, name in NAMES.items():
        figures = result["recipes"][recipe]
        run, size = figures["median"], figures["spread"]["file_bytes"]
        lines.append(
            f"| {name} | {grouped(run['dense_bytes'])} "
            f"| **{grouped(run['file_bytes'])}** ({grouped(size['min'])}–{grouped(size['max'])}) "
            f"| {run['ratio']:.0f} "
            f"| {run['test_error_percent']:.2f} ({run['dense_test_error_percent']:.2f}) "
            f"| {run['paper_architecture']:.1f} / {run['paper_with_uncertainty']:.0f} "
            f"({run['paper_test_error_percent']:.2f}) |"
        )
    return [*lines, "", "Command: `python benchmarks/lenets.py --zoo`."]


def steps(result: Mapping[str, Any]) -> list[str]:
    """The ratios of step times, one row per network."""
    columns = ("group-jeffreys", "group-jeffreys-units", "group-horseshoe", "published")
    heads = (
        "normal-Jeffreys",
        "without scales on pixels and positions",
        "horseshoe",
        "published layers, ported",
    )
    lines = [
        f"| training step, relative to the plain network | {' | '.join(heads)} |",
        "|---|" + "---|" * len(columns),
    ]
    for network, figures in result["networks"].items():
        ratios = figures["relative_to"]["plain"]
        cells = [f"{ratios[c]['median']:.2f}×" if c in ratios else "–" for c in columns]
        lines.append(f"| {network} | {' | '.join(cells)} |")
    return [*lines, "", "Command: `python benchmarks/step_time.py`."]


def grouped(number: int) -> str:
    """``1 066 440``."""
    return f"{number:,}".replace(",", " ")


def _read(path: Path) -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    return content


if __name__ == "__main__":
    sys.exit(main())
