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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
PICTURES = ROOT / "docs" / "pictures"
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
        source = results / f"{SOURCES[name]}.json"
        lines = ["Not measured yet."]
        if source.exists():
            lines = TABLES[name](json.loads(source.read_text("utf-8")))
        return f"{found[1]}{chr(10).join(lines)}\n{found[3]}"

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


def recovery(result: Result) -> list[str]:
    """What the shrinking rule would have removed wrongly, at a few cuts and patiences."""
    added: dict[tuple[str, float, int], list[Result]] = {}
    for key, cell in result["cells"].items():
        for rule in cell["rules"]:
            if rule["patience"] <= 3 and rule["cut"] > 0:
                at = (key.partition("/")[0], rule["cut"], rule["patience"])
                added.setdefault(at, []).append(rule)
    keys = ("removed", "below_the_cut_later", "signal_later", "signal_at_the_end")
    rows = [
        (prior, f"{cut:g}", patience, *(grouped(sum(r[key] for r in rules)) for key in keys))
        for (prior, cut, patience), rules in added.items()
    ]
    head = ("prior", "cut", "patience, epochs", *(key.replace("_", " ") for key in keys))
    seeds = {prior: 0 for prior, _, _ in added}
    for key in result["cells"]:
        seeds[key.partition("/")[0]] += 1
    told = ", ".join(f"{prior} {count}" for prior, count in seeds.items())
    return [*markdown(head, rows), "", f"Seeds: {told}.", *missing(result)]


def curves_allconv(result: Result) -> list[str]:
    """The last epoch of each curve, units and processor time where they are known."""
    rows = []
    for name, found in result["curves"].items():
        last, run = found["last"], found["seeds"][0]
        cpu = [s for s in run.get("cpu_seconds", []) if s is not None]
        units = [count for count in run.get("units", []) if count is not None]
        rows.append(
            (
                name,
                len(found["seeds"]),
                *(
                    spread(last[key], ".3f")
                    for key in (
                        "fitted_accuracy",
                        "validation_accuracy",
                        "fitted_nll",
                        "validation_nll",
                        "least_validation_nll",
                    )
                ),
                units[-1] if units else "–",
                f"{sum(cpu) / len(cpu):.1f}" if cpu else "–",
            )
        )
    head = (
        "curve",
        "seeds",
        "accuracy, fitted",
        "validation",
        "NLL, fitted",
        "validation",
        "least on the way",
        "units left",
        "processor s an epoch",
    )
    return [*markdown(head, rows), *missing(result)]


def layout(result: Result) -> list[str]:
    """A step's processor time, as a share of that without either."""
    rows = []
    for network, cell in result["cells"].items():
        for kind in ("plain", "twin"):
            shares = cell["share_of_neither"]
            rows.append(
                (
                    f"{network}, {kind}",
                    f"{cell['ms'][f'{kind}, neither']['median']:.0f}",
                    *(
                        spread(shares[f"{kind}, {way}"])
                        for way in ("channels last", "bf16", "both")
                    ),
                )
            )
    return markdown(("step", "ms with neither", "channels last", "bf16", "both"), rows)


def depth(result: Result) -> list[str]:
    """One row per variant of the ablation."""
    rows = []
    for name, found in result["variants"].items():
        rows.append(
            (
                name,
                f"{len(found['broken'])} of {found['seeds']}",
                spread(found["nll_at_the_end"]),
                spread(_hundredfold(found["control_accuracy"]), ".1f"),
                spread(found["largest_grad_norm"], ".1f"),
                spread(found["kl_nats_per_weight"]),
                spread(found["units_beyond_1"], ".0f"),
            )
        )
    head = (
        "variant",
        "went to NaN",
        "NLL at the end",
        "control accuracy, %",
        "largest gradient norm",
        "KL, nats a weight",
        "units beyond log α 1",
    )
    return [*markdown(head, rows), *missing(result)]


def deep_steps(result: Result) -> list[str]:
    """One row per deep network."""
    rows = []
    for name, found in result["networks"].items():
        rows.append(
            (
                name,
                f"{len(found['broken'])} of {found['seeds']}",
                spread(found["plain_nll"]),
                spread(found["nll_first"]),
                spread(found["nll_last"]),
                f"{spread(found['units_left'], '.0f')} of {grouped(found['units'])}",
                spread(found["plain_step_ms"], ".0f"),
                spread(found["twin_step_ms_first"], ".0f"),
                spread(found["twin_step_ms_last"], ".0f"),
                spread(found["peak_rss_mib"], ".0f"),
            )
        )
    head = (
        "network",
        "went to NaN",
        "plain NLL",
        "twin's NLL, first tenth",
        "last tenth",
        "units left",
        "plain step, ms",
        "twin's, first",
        "last",
        "peak memory, MiB",
    )
    return [*markdown(head, rows), *missing(result)]


def resnet20(result: Result) -> list[str]:
    """One row per contestant."""
    rows = []
    for name, found in result["spread"].items():
        accuracy = spread(_hundredfold(found["validation_accuracy"]))
        if name == "adapted":
            rows.append((name, "100", "–", accuracy, "0"))
            continue
        rows.append(
            (
                name,
                spread(_hundredfold(found["macs_share"]), ".1f"),
                spread(_hundredfold(found["accuracy_before_finetuning"]), ".1f"),
                accuracy,
                spread(found["points_below_adapted"]),
            )
        )
    head = (
        "contestant, share of MACs asked for",
        "MACs, %",
        "validation before fine-tuning, %",
        "after, %",
        "points below the adapted network",
    )
    return [*markdown(head, rows), *missing(result)]


def missing(result: Result) -> list[str]:
    """The cells that are not measured yet, named."""
    names = result.get("missing") or []
    return ["", f"Not measured yet: {', '.join(names)}."] if names else []


def _hundredfold(found: Mapping[str, float] | None) -> Mapping[str, float] | None:
    return found and {**found, **{key: 100 * found[key] for key in ("median", "min", "max")}}


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


def codec(result: Result) -> list[str]:
    """One row per network: bytes of ours and others, and times beside NNCodec's."""
    head = (
        "integers of",
        "symbols",
        "NNCodec, bytes",
        "ours",
        "ratio",
        "ideal of our model",
        "weights alone: ours / entropy per tensor / static tables + their cost",
        "encoding, s (NNCodec's)",
        "decoding, s (NNCodec's)",
    )
    rows = []
    for name, case in result["cases"].items():
        weights = (
            f"{grouped(case['weights_bytes'])} / {grouped(case['weights_entropy_bytes'])} / "
            f"{grouped(case['weights_constriction_bytes'])} + {grouped(case['weights_constriction_tables'])}"
        )
        times = case["cpu_seconds"]
        rows.append(
            (
                name,
                grouped(case["symbols"]),
                grouped(case["nncodec_bytes"]),
                f"**{grouped(case['bytes'])}**",
                f"{case['ratio']:.3f}",
                grouped(case["ideal_bytes"]),
                weights,
                f"{times['encode']:.2f} ({times['nncodec_encode']:.2f})",
                f"{times['decode']:.3f} ({times['nncodec_decode']:.3f})",
            )
        )
    return markdown(head, rows)


def pack(result: Result) -> list[str]:
    """One row per point: bytes, errors of the weights, accuracies."""
    head = (
        "network",
        "qp",
        "NNCodec, bytes",
        "ours",
        "ratio",
        "relative error (NNCodec's)",
        "accuracy on validation, % (NNCodec's)",
    )
    rows: list[tuple[Any, ...]] = []
    for name, network in result["networks"].items():
        for point in network["points"]:
            accuracy = f"{100 * point['accuracy']:.2f}"
            if point["qp"] is None:
                size = f"{grouped(point['dense_bytes'])} as float32"
                rows.append((name, "", size, "", "", "", accuracy))
                continue
            rows.append(
                (
                    name,
                    point["qp"],
                    grouped(point["nncodec_bytes"]),
                    f"**{grouped(point['bytes'])}**",
                    f"{point['ratio']:.3f}",
                    f"{point['relative_error']:.4f} ({point['nncodec_relative_error']:.4f})",
                    f"{accuracy} ({100 * point['nncodec_accuracy']:.2f})",
                )
            )
    return markdown(head, rows)


def fuzz(result: Result) -> list[str]:
    """How many, of which kind, and what became of them."""
    counts = result["counts"]
    crashes = sum(n for name, n in counts.items() if name.startswith("crash"))
    head = ("inputs", "bytes / values / noise", "decoded", "refused", "crashed", "slowest, s")
    kinds = " / ".join(grouped(counts.get(k, 0)) for k in ("bytes", "values", "noise"))
    row = (
        grouped(counts["inputs"]),
        kinds,
        grouped(counts.get("decoded", 0)),
        grouped(counts.get("refused", 0)),
        crashes,
        f"{result['slowest_seconds']:.3f}",
    )
    return markdown(head, [row])


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
    "recovery": "recovery",
    "curves_allconv": "curves-allconv",
    "layout": "layout_time",
    "depth": "depth_ablation",
    "deep_steps": "deep_steps",
    "resnet20": "resnet20_pruning",
    "coverage": "coverage",
    "failures": "coverage",
    "latency": "latency",
    "codec": "codec",
    "pack": "pack",
    "fuzz": "fuzz",
}
TABLES: dict[str, Callable[[Result], list[str]]] = {
    "lenets": lenets,
    "seeds": seeds,
    "comparison": comparison,
    "stabilisers": stabilisers,
    "steps": steps,
    "curves": curves,
    "recovery": recovery,
    "curves_allconv": curves_allconv,
    "layout": layout,
    "depth": depth,
    "deep_steps": deep_steps,
    "resnet20": resnet20,
    "coverage": coverage,
    "failures": failures,
    "latency": latency,
    "codec": codec,
    "pack": pack,
    "fuzz": fuzz,
}

if __name__ == "__main__":
    sys.exit(main())
