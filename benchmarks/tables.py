"""The tables of measured results, in README.md and docs/results.md, from the JSON the benchmarks left.

    python benchmarks/tables.py [--check]

Replaces what stands between the ``measured`` markers of the two files; --check only says whether they are
already what the results say (exit code 1 if not).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import tables_at_depth
import tables_of_files
import tables_of_lenets
import tables_of_search
import tables_of_structure
from table_parts import Result

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
PICTURES = ROOT / "docs" / "pictures"
BLOCK = re.compile(r"(<!-- measured:(\w+) -->\n).*?(<!-- measured:end -->)", re.DOTALL)

TABLES: dict[str, tuple[str, Callable[[Result], list[str]]]] = {
    "lenets": ("lenets", tables_of_lenets.lenets),
    "seeds": ("lenets", tables_of_lenets.seeds),
    "comparison": ("lenets", tables_of_lenets.comparison),
    "stabilisers": ("stabilisers", tables_of_lenets.stabilisers),
    "steps": ("step_time", tables_of_lenets.steps),
    "data_path": ("data_path", tables_of_lenets.data_path),
    "curves": ("curves", tables_of_lenets.curves),
    "recovery": ("recovery", tables_at_depth.recovery),
    "recovery_lenet": ("recovery-lenet-5", tables_at_depth.recovery),
    "curves_allconv": ("curves-allconv", tables_at_depth.curves_allconv),
    "layout": ("layout_time", tables_at_depth.layout),
    "depth": ("depth_ablation", tables_at_depth.depth),
    "deep_steps": ("deep_steps", tables_at_depth.deep_steps),
    "resnet20": ("resnet20_pruning", tables_at_depth.resnet20),
    "full_cifar": ("full_cifar", tables_at_depth.full_cifar),
    "coverage": ("coverage", tables_of_structure.coverage),
    "failures": ("coverage", tables_of_structure.failures),
    "latency": ("latency", tables_of_structure.latency),
    "structure_pass": ("structure_pass", tables_of_structure.structure_pass),
    "codec": ("codec", tables_of_files.codec),
    "bits": ("bits", tables_of_files.bits),
    "floors": ("floors", tables_of_files.floors),
    "bits_ablation": ("bits_ablation", tables_of_files.bits_ablation),
    "defaults": ("defaults", tables_of_files.defaults),
    "resnet20_bits": ("resnet20_bits", tables_of_files.resnet20_bits),
    "pack_curve": ("pack_curve", tables_of_files.pack_curve),
    "pack": ("pack", tables_of_files.pack),
    "fuzz": ("fuzz", tables_of_files.fuzz),
    "searches": ("search_lenet", tables_of_search.searches),
    "replays": ("search_replay_mnist", tables_of_search.replays),
    "forecasts": ("search_replay_mnist", tables_of_search.forecasts),
    "replays_digits": ("search_replay", tables_of_search.replays),
    "kills": ("kills", tables_of_search.kills),
    "ledger": ("ledger_kills", tables_of_search.ledger),
}
"""Name in a marker -> the result it is made of, and how."""

EXPECTATIONS = ("full_cifar",)
"""Tables that say what is expected, before there is a result too."""


def main() -> int:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(description="The tables of measured results.")
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    stale = []
    for page in PAGES:
        text = page.read_text("utf-8")
        new = with_tables(text, ROOT / "benchmarks" / "results")
        if new != text:
            stale.append(page.name)
            if not check:
                page.write_text(new, "utf-8")
    for picture in sorted((ROOT / "benchmarks" / "results").glob("*.png")):
        shown = PICTURES / picture.name
        if not shown.exists() or shown.read_bytes() != picture.read_bytes():
            stale.append(f"pictures/{picture.name}")
            if not check:
                shown.parent.mkdir(exist_ok=True)
                shutil.copyfile(picture, shown)
    if check and stale:
        print(f"not what the results say: {', '.join(stale)}", file=sys.stderr)
    return int(check and bool(stale))


def with_tables(text: str, results: Path) -> str:
    """A page with the tables that the results make."""

    def replaced(found: re.Match[str]) -> str:
        name = found[2]
        source, table = TABLES[name]
        path = results / f"{source}.json"
        lines = ["Not measured yet."]
        if path.exists():
            lines = table(json.loads(path.read_text("utf-8")))
        elif name in EXPECTATIONS:
            lines = table({})
        return f"{found[1]}{chr(10).join(lines)}\n{found[3]}"

    return BLOCK.sub(replaced, text)


if __name__ == "__main__":
    sys.exit(main())
