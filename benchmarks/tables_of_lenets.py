"""Tables of the LeNets: files, seeds, stabilisers, steps, curves."""

from __future__ import annotations

from table_parts import Result, grouped, markdown, spread

NAMES = {
    "lenet-300-100/mnist": "LeNet-300-100, normal-Jeffreys",
    "lenet-300-100-conv/mnist": "the same as 1×1 convolutions",
    "lenet-5/mnist": "LeNet-5-Caffe, normal-Jeffreys",
    "lenet-5-horseshoe/mnist": "LeNet-5-Caffe, horseshoe",
}


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
                        f"{100 * floor['value']:.6g} %"
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
        "group-jeffreys-tied": "tied variances",
        "group-jeffreys-tied-units": "tied, without those scales",
        "group-horseshoe": "horseshoe",
        "published": "the published layers, ported",
    }
    measured = {name for f in result["networks"].values() for name in f["relative_to"]["plain"]}
    columns = {name: title for name, title in columns.items() if name in measured}
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


def data_path(result: Result) -> list[str]:
    """What a batch costs, in hundredths of the plain step it feeds."""
    titles = {
        "plain": "uint8 to normalised fp32",
        "shift": "with shifts",
        "shift-edge": "with shifts, edge fill",
        "shift-flip": "with shifts and flips",
        "warp": "with warps",
        "colour-crop-flip": "32×32 in colour, crops and flips",
    }
    shares = result["share_of_step_percent"]
    rows = [
        (title, *(f"{shares[step][name]:.1f} %" for step in shares))
        for name, title in titles.items()
    ]
    return markdown(("batch", *shares), rows)
