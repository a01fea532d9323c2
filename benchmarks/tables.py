"""The tables of measured results, in README.md and docs/results.md, from the JSON the benchmarks left.

    python benchmarks/tables.py [--check]

Replaces what stands between the ``measured`` markers of the two files; --check only says whether they are
already what the results say (exit code 1 if not).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
BLOCK = re.compile(r"(<!-- measured:(\w+) -->\n).*?(<!-- measured:end -->)", re.DOTALL)
NAMES = {
    "lenet-300-100/mnist": "LeNet-300-100, normal-Jeffreys",
    "lenet-300-100-conv/mnist": "the same as 1×1 convolutions",
    "lenet-5/mnist": "LeNet-5-Caffe, normal-Jeffreys",
    "lenet-5-horseshoe/mnist": "LeNet-5-Caffe, horseshoe",
}
Result = Mapping[str, Any]


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
    if check and stale:
        print(f"not what the results say: {', '.join(stale)}", file=sys.stderr)
    return int(check and bool(stale))


def with_tables(text: str, results: Path) -> str:
    """A page with the tables that the results make."""

    def replaced(found: re.Match[str]) -> str:
        name = found[2]
        result = json.loads((results / f"{SOURCES[name]}.json").read_text("utf-8"))
        return f"{found[1]}{chr(10).join(TABLES[name](result))}\n{found[3]}"

    return BLOCK.sub(replaced, text)


def lenets(result: Result) -> list[str]:
    """One row per recipe: the median seed's file, and the range over the seeds."""
    head = (
        "network, prior",
        "original, bytes",
        "file, bytes (least–largest)",
        "factor",
        "test error, % (original)",
        "counts, not bytes: architecture / with uncertainty (error at that precision, %)",
        "floor held",
    )
    rows = []
    for recipe, name in NAMES.items():
        figures = result["recipes"][recipe]
        run, size = figures["median"], figures["spread"]["file_bytes"]
        rows.append(
            (
                name,
                grouped(run["dense_bytes"]),
                f"**{grouped(run['file_bytes'])}** ({grouped(size['min'])}–{grouped(size['max'])})",
                f"{run['ratio']:.0f}",
                f"{run['test_error_percent']:.2f} ({run['dense_test_error_percent']:.2f})",
                (
                    f"{run['paper_architecture']:.1f} / {run['paper_with_uncertainty']:.0f} "
                    f"({run['paper_test_error_percent']:.2f})"
                ),
                f"{figures['floors_met']} of {len(figures['runs'])}",
            )
        )
    return markdown(head, rows)


def seeds(result: Result) -> list[str]:
    """Every run behind the medians."""
    head = (
        "recipe",
        "seed",
        "bytes (predicted)",
        "test error, %",
        "architecture",
        "with uncertainty",
        "units left",
        "validation, floor",
        "epochs",
        "training, s",
    )
    rows = []
    for recipe in NAMES:
        for run in result["recipes"][recipe]["runs"]:
            floor = run["floor"]
            trained = sum(
                run["seconds_per_stage"].get(s, 0) for s in ("plain", "structure", "finetune")
            )
            rows.append(
                (
                    recipe,
                    run["seed"],
                    f"{grouped(run['file_bytes'])} ({grouped(run['predicted_bytes'])})",
                    f"{run['test_error_percent']:.2f}",
                    f"{run['paper_architecture']:.1f}",
                    f"{run['paper_with_uncertainty']:.0f}",
                    "-".join(str(unit["after"]) for unit in run["units"].values()),
                    (
                        f"{100 * floor['validation_value']:.2f} %, {'held' if floor['met'] else 'missed'} "
                        f"{100 * floor['value']:.1f} %"
                    ),
                    run["epochs"],
                    f"{trained:.0f}",
                )
            )
    return markdown(head, rows)


def comparison(result: Result) -> list[str]:
    """Linear layers against 1x1 convolutions."""
    labels = {
        "paper_architecture": "architecture count",
        "paper_with_uncertainty": "count with uncertainty",
        "file_bytes": "file, bytes",
        "test_error_percent": "test error, %",
    }
    rows = []
    for key, label in labels.items():
        pair = result["linear_against_convolution"][key]
        within = "yes" if pair["within_spread"] else "no"
        rows.append((label, spread(pair["linear"]), spread(pair["convolution"]), within))
    return markdown(("median (least–largest)", "linear", "1×1 convolutions", "within spread"), rows)


def stabilisers(result: Result) -> list[str]:
    """One row per variant."""
    rows = []
    for name, found in result["variants"].items():
        rows.append(
            (
                name,
                f"{found['went_to_nan']} of {found['runs']}",
                ", ".join(map(str, found["nan_epochs"])) or "–",
                spread(found["validation_error_percent"]),
                spread(found["predicted_bytes"]),
            )
        )
    head = ("variant", "went to NaN", "in epoch", "validation error, %", "predicted bytes")
    return markdown(head, rows)


def steps(result: Result) -> list[str]:
    """The ratios of step times, one row per network."""
    columns = {
        "group-jeffreys": "normal-Jeffreys",
        "group-jeffreys-units": "without scales on pixels and positions",
        "group-horseshoe": "horseshoe",
        "published": "the published layers, ported",
    }
    rows = []
    for network, figures in result["networks"].items():
        ratios = figures["relative_to"]["plain"]
        cells = [f"{ratios[c]['median']:.2f}×" if c in ratios else "–" for c in columns]
        rows.append((f"{network}, {figures['ms']['plain']['median']:.1f} ms", *cells))
    return markdown(("plain step", *columns.values()), rows)


def curves(result: Result) -> list[str]:
    """The last epoch of each curve."""
    rows = []
    for name, found in result["curves"].items():
        last = found["last"]
        rows.append((name, *(spread(last[key], ".3f") for key in sorted(last))))
    first = next(iter(result["curves"].values()))["last"]
    return markdown(("curve", *(key.replace("_", " ") for key in sorted(first))), rows)


def coverage(result: Result) -> list[str]:
    """One row per suite."""
    rows = []
    for suite, found in result["suites"].items():
        exported = found["onnx_of_original"]
        rows.append(
            (
                suite,
                f"{found['ok']} of {found['networks']} run ({found['listed']} there are)",
                found["wrong"],
                f"{found['onnx']} of {exported} ({found['onnx_not_tried']} not tried)",
                spread(found["parameters_removed"]),
                spread(found["analyse_seconds"], ".1f"),
                spread(found["peak_rss_gigabytes"], ".1f"),
            )
        )
    head = (
        "suite",
        "ok",
        "wrong",
        "ONNX, of those whose original exports",
        "share of parameters removed",
        "analysis, s",
        "peak memory, GB",
    )
    return markdown(head, rows)


def failures(result: Result) -> list[str]:
    """The networks that did not come through."""
    found = [n for n in result["networks"] if n["outcome"] != "ok"]
    rows = [
        (
            f"{n['suite']}/{n['name']}",
            n["failed_in"],
            n["reason"].splitlines()[0][:160].replace("|", "/"),
        )
        for n in found
    ]
    return markdown(("network", "step", "reason"), rows) if rows else ["None."]


def latency(result: Result) -> list[str]:
    """One row per network and variant."""
    rows = [
        (name, variant, grouped(row["macs"]), grouped(row["parameters"]), spread(row["relative"]))
        for name, variants in result["networks"].items()
        for variant, row in variants.items()
    ]
    head = ("network", "units", "multiply-accumulates", "parameters", "time")
    return markdown(head, rows)


def spread(found: Mapping[str, float] | None, form: str = ".2f") -> str:
    """``median (least–largest)``."""
    if found is None:
        return "–"

    def say(value: float) -> str:
        return (
            grouped(int(value)) if float(value).is_integer() and value > 99 else f"{value:{form}}"
        )

    return f"{say(found['median'])} ({say(found['min'])}–{say(found['max'])})"


def markdown(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    """A table."""
    lines = [head, ("---",) * len(head), *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]


def grouped(number: int) -> str:
    """``1 066 440``."""
    return f"{number:,}".replace(",", " ")


SOURCES = {
    "lenets": "lenets",
    "seeds": "lenets",
    "comparison": "lenets",
    "stabilisers": "stabilisers",
    "steps": "step_time",
    "curves": "curves",
    "coverage": "coverage",
    "failures": "coverage",
    "latency": "latency",
}
TABLES: dict[str, Callable[[Result], list[str]]] = {
    "lenets": lenets,
    "seeds": seeds,
    "comparison": comparison,
    "stabilisers": stabilisers,
    "steps": steps,
    "curves": curves,
    "coverage": coverage,
    "failures": failures,
    "latency": latency,
}

if __name__ == "__main__":
    sys.exit(main())
