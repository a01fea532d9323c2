"""Tables of which networks can be made small, what that does to their latency, and what shrinking saves."""

from __future__ import annotations

from table_parts import Result, grouped, markdown, missing, spread


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


def structure_pass(result: Result) -> list[str]:
    """One row per recipe and contestant."""
    rows = []
    for group, found in result["spread"].items():
        recipe, _, contestant = group.rpartition("/")
        way, _, variances = contestant.rpartition("-")
        keys = ("validation_error_percent", "test_error_percent", "parameters")
        ratios = ("ratio_whole", "ratio_cpu", "ratio_to_the_end", "ratio_cpu_to_the_end")
        rows.append(
            (
                recipe,
                f"{way.replace('-', ' ')}, {variances}" if way else contestant,
                found["validation_error_percent"]["n"],
                *(spread(found[key]) for key in (*keys, *ratios)),
            )
        )
    head = (
        "recipe",
        "structure pass, variances",
        "seeds",
        "validation error at the end, %",
        "test error, %",
        "parameters",
        "structure pass over as many plain epochs",
        "processor time",
        "structure pass, cut and fine-tuning over as many",
        "processor time",
    )
    return [*markdown(head, rows), *_verdicts(result["compared"]), *missing(result)]


def _verdicts(compared: Result) -> list[str]:
    """The two questions, answered for each twin that shrinks."""
    lines = []
    for group, found in compared.items():
        costs, same = found["costs_no_more_than_plain"], found["same_error_as_without"]
        no_more = _yes(costs.get("ratio_cpu", costs["ratio_whole"]))
        alike = ", ".join(f"{key.partition('_')[0]} {_yes(held)}" for key, held in same.items())
        lines.append(
            f"* {group}: as cheap as plain training: {no_more}; errors as without shrinking: {alike}."
        )
    return ["", *lines] if lines else []


def _yes(held: bool) -> str:
    return "yes" if held else "no"
