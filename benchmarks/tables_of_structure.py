"""Tables of which networks can be made small, and what that does to their latency."""

from __future__ import annotations

from table_parts import Result, grouped, markdown, spread


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
