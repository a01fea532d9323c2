"""Tables of deep networks: recovery, curves, layout, ablation, steps, pruning, the whole experiment."""

from __future__ import annotations

from full_cifar_expected import EXPECTED, FLOORS, PUBLISHED
from table_parts import Result, grouped, hundredfold, markdown, missing, spread


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
                spread(hundredfold(found["control_accuracy"]), ".1f"),
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
        accuracy = spread(hundredfold(found["validation_accuracy"]))
        test = spread(hundredfold(found.get("test_accuracy")))
        if name == "adapted":
            rows.append((name, "100", "–", accuracy, "0", test, "0"))
            continue
        rows.append(
            (
                name,
                spread(hundredfold(found["macs_share"]), ".1f"),
                spread(hundredfold(found["accuracy_before_finetuning"]), ".1f"),
                accuracy,
                spread(found["points_below_adapted"]),
                test,
                spread(found.get("test_points_below_adapted")),
            )
        )
    head = (
        "contestant, share of MACs asked for",
        "MACs, %",
        "validation before fine-tuning, %",
        "after, %",
        "points below the adapted network",
        "test, %",
        "points below",
    )
    return [*markdown(head, rows), *missing(result)]


def full_cifar(result: Result) -> list[str]:
    """One row per network: what came out, if it has been run, and what is expected."""
    rows = []
    for name, floor in FLOORS.items():
        found, expected = (result.get("measured") or {}).get(name), EXPECTED[name]
        published = "; ".join(
            f"{one.method}: {grouped(one.size_bytes)} at {one.error_percent:g} ({one.kind})"
            for one in PUBLISHED.get(name, ())
        )
        rows.append(
            (
                f"{name}, `{floor}`",
                f"**{grouped(found['file_bytes'])}**" if found else "not run yet",
                grouped(expected.most_bytes),
                f"{found['test_error_percent']:.2f} ({found['dense_test_error_percent']:.2f})"
                if found
                else "–",
                expected.error_percent,
                expected.grounds,
                published or "–",
            )
        )
    head = (
        "network, floor on validation",
        "file, bytes",
        "expected, at most",
        "test error, % (original)",
        "expected",
        "grounds",
        "published, bytes at test error, % (kind)",
    )
    return markdown(head, rows)
