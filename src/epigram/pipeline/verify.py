"""What the decoded network is worth: every figure comes from the file on disk."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import nn

from epigram import artifact
from epigram.convert import Twin
from epigram.evaluate import (
    class_accuracy_change_percent,
    disagreement_percent,
    evaluate_logits,
    latency,
    macs,
    predictions,
)
from epigram.pipeline.job import Job
from epigram.quantize import at_precision, paper_counts
from epigram.structure import load_tensors_, state_tensors

_ROUNDS = 5
_ENOUGH_S = 1.0


def dense_bytes(model: nn.Module) -> int:
    """Parameters and buffers of the original as 32-bit floats."""
    values = sum(t.numel() for t in state_tensors(model).values() if t.is_floating_point())
    return 4 * int(values)


def test_figures(job: Job, plain: nn.Module, small: nn.Module) -> dict[str, Any]:
    """Both networks on the full test set, read once."""
    test = job.splits.test
    if test is None:
        return {}
    before, after = (
        predictions(model, test, preprocess=job.recipe.preprocess) for model in (plain, small)
    )
    dense, decoded = (evaluate_logits(logits, test.targets) for logits in (before, after))
    change = class_accuracy_change_percent(before, after, test.targets)
    return {
        "dense_test_error_percent": dense.error_percent,
        "test_error_percent": decoded.error_percent,
        "dense_test_nll": dense.nll,
        "test_nll": decoded.nll,
        "dense_test_calibration_error": dense.calibration_error,
        "test_calibration_error": decoded.calibration_error,
        "disagreement_percent": disagreement_percent(before, after),
        "class_accuracy_change_percent": [round(float(c), 4) for c in change],
        "_bins": decoded.bins,
    }


def cost_figures(job: Job, plain: nn.Module, small: nn.Module, path: Path) -> dict[str, Any]:
    """Multiplications, latency, loading time and memory of both, measured in turns."""
    example = job.example[:1]
    stored = save_safetensors({k: v.contiguous() for k, v in state_tensors(plain).items()})

    def load_dense() -> nn.Module:
        model = job.build()
        load_tensors_(model, load_safetensors(stored))
        return model

    def load_small() -> nn.Module:
        return artifact.load(path, into=job.build())

    def known(measure: Callable[[], Any]) -> Any:
        """None where a network does not take a single example; a run is not lost for that."""
        try:
            return measure()
        except (RuntimeError, ValueError):
            return None

    loads = _in_turns({"before": load_dense, "after": load_small})
    pair = {"before": plain, "after": small}
    times = known(lambda: latency(pair, example))
    return {
        "macs": known(lambda: {name: macs(model, example) for name, model in pair.items()}),
        "latency_ms": times and {name: round(value, 5) for name, value in times.items()},
        "load_ms": loads,
        "peak_rss_bytes": {
            "before": peak_rss(lambda: plain(job.example.clone())),
            "after": peak_rss(lambda: small(job.example.clone())),
        },
    }


def _in_turns(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median milliseconds of each call, interleaved; no further turn once they have taken a while."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    started = time.perf_counter()
    for turn in range(_ROUNDS):
        if turn and time.perf_counter() - started > _ENOUGH_S:
            break
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: round(statistics.median(values), 4) for name, values in times.items()}


def peak_rss(call: Callable[[], object]) -> int | None:
    """Largest resident memory of this process while ``call`` runs, bytes; None where unknown.

    Linux only: the kernel's high-water mark is reset first.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
        with torch.no_grad():
            call()
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return 1024 * int(found.group(1)) if found else None


def counted(job: Job, plain: nn.Module, small: nn.Module, twin: Twin) -> dict[str, Any]:
    """The paper's two counts, and the test error of the network at that precision."""
    posterior, live = twin.posterior(), twin.live_positions()
    names = [name for name in posterior if name.endswith("weight")]

    def left(name: str, values: Any) -> Any:
        return values[:, live[name]] if name in live else values

    parameters = {name: t.detach().cpu().numpy() for name, t in small.named_parameters()}
    before = dict(plain.named_parameters())
    counts = paper_counts(
        {name: left(name, parameters[name]) for name in names},
        {name: left(name, posterior[name].marginal_variance) for name in names},
        weights_before=sum(before[name].numel() for name in names),
    )
    rounded = {
        name: at_precision(parameters[name], counts.significand_bits[name]) for name in names
    }
    figures: dict[str, Any] = {
        "architecture": round(counts.architecture, 2),
        "with_uncertainty": round(counts.with_uncertainty, 2),
        "weights_left": counts.weights_left,
        "significand_bits": dict(counts.significand_bits),
        "exponent_bits": counts.exponent_bits,
    }
    if job.splits.test is not None:
        kept = {name: t.detach().clone() for name, t in small.named_parameters()}
        try:
            _fill(small, {name: torch.from_numpy(np.asarray(v)) for name, v in rounded.items()})
            figures["test_error_percent"] = job.evaluate(small, job.splits.test).error_percent
        finally:
            _fill(small, kept)
    return figures


@torch.no_grad()
def _fill(model: nn.Module, values: dict[str, torch.Tensor]) -> None:
    for name, value in values.items():
        model.get_parameter(name).copy_(value)
