"""Tables of the coder: sizes and times beside other coders, packed checkpoints, fuzzing."""

from __future__ import annotations

from table_parts import Result, grouped, hundredfold, markdown, missing, spread


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


def bits(result: Result) -> list[str]:
    """One row per file: medians and ranges over the seeds, and the aim."""
    head = (
        "file",
        "floor on validation (met)",
        "bytes, median (range)",
        "aim",
        "test error, %, median (range)",
        "aim",
        "by seed: bytes at test error, %",
    )
    rows = []
    for name, found in result["files"].items():
        aim, runs = found["aim"], found["runs"]
        rows.append(
            (
                name,
                f"`{found['floor']}` ({found['floors_met']} of {len(runs)})",
                f"**{spread(found['bytes'])}**",
                grouped(aim["bytes"]),
                spread(found["test_error_percent"]),
                f"{aim['test_error_percent']:.2f}",
                ", ".join(
                    f"{grouped(run['file_bytes'])} at {run['test_error_percent']:.2f}"
                    for run in runs
                ),
            )
        )
    return markdown(head, rows)


def floors(result: Result) -> list[str]:
    """One row per floor: medians and ranges over the seeds, and which test errors lie outside the band."""
    head = (
        "floor on validation, % (met)",
        "bytes, median (range)",
        "test error, %, median (range)",
        "by seed: bytes at test error, %",
        "outside the band",
    )
    outside = result["checks"]["outside_band"]
    rows = []
    for floor, found in result["floors"].items():
        runs = found["runs"]
        rows.append(
            (
                f"{100 * float(floor):.1f} ({found['floors_met']} of {len(runs)})",
                f"**{spread(found['bytes'])}**",
                spread(found["test_error_percent"]),
                ", ".join(
                    f"{grouped(run['file_bytes'])} at {run['test_error_percent']:.2f}"
                    for run in runs
                ),
                str(sum(one["floor"] == floor for one in outside)),
            )
        )
    return markdown(head, rows)


def bits_ablation(result: Result) -> list[str]:
    """One row per variant: its bytes at the floor, and over those of the recipe as it is."""
    head = (
        "variant",
        "bytes, median (range)",
        "over as it is",
        "by a static code",
        "control / validation, %",
        f"`{result['floor']}` met",
    )
    variants = result["variants"]
    whole = variants["as-it-is"]["median"]["file_bytes"]
    rows = []
    for name, found in variants.items():
        median, floor = found["median"], found["median"]["floor"]
        rows.append(
            (
                name,
                f"**{spread(found['bytes'])}**",
                f"{median['file_bytes'] / whole:.2f}",
                grouped(round(median["static_code_bytes"])),
                f"{100 * floor['control_value']:.2f} / {100 * floor['validation_value']:.2f}",
                f"{found['floors_met']} of {len(found['runs'])}",
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


def pack_curve(result: Result) -> list[str]:
    """One row per network: ours over NNCodec's bytes where both have lost as much accuracy."""
    networks = result["networks"]
    drops = [at["drop_percent"] for at in next(iter(networks.values()))["at"]]
    head = ("network", "original, %", *(f"{drop:g} points below" for drop in drops))
    rows = [
        (
            name,
            f"{100 * network['accuracy']:.2f}",
            *(f"**{at['ratio']:.3f}** ({at['low']:.3f}–{at['high']:.3f})" for at in network["at"]),
        )
        for name, network in networks.items()
    ]
    return markdown(head, rows)


def defaults(result: Result) -> list[str]:
    """One row per start of the bits pass."""
    head = ("steps a root mean square", "file, bytes, median (range)", "fallbacks")
    rows = []
    for start, found in result["spread"].items():
        size, runs = found["file_bytes"], found["file_bytes"]["n"]
        chosen = " (default)" if float(start) == result["settings"]["default"] else ""
        rows.append((f"{start}{chosen}", f"**{spread(size)}**", f"{found['fallbacks']} of {runs}"))
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


def resnet20_bits(result: Result) -> list[str]:
    """One row per contestant: bytes, and what they are worth."""
    head = (
        "contestant",
        "bytes",
        "ratio",
        "validation, %",
        "points below the adapted network",
        "test, %",
        "points below",
    )
    rows = []
    for name, found in result["spread"].items():
        rows.append(
            (
                name,
                spread(found["bytes"]),
                spread(found["ratio"], ".1f"),
                spread(hundredfold(found["validation_accuracy"])),
                spread(found["points_below_adapted"]),
                spread(hundredfold(found["test_accuracy"])),
                spread(found["test_points_below_adapted"]),
            )
        )
    return [*markdown(head, rows), *missing(result)]
