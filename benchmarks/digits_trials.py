"""Trials of a tenth of a second with real curves: a small perceptron on scikit-learn's 8 x 8 digits.

Weights are made sparse by a proximal L1 step that is phased in over the first quarter, rounded to a grid,
and counted as the entropy of their symbols. Written in numpy, so that hundreds of curves cost seconds. It
stands in for a network where the search is what is measured, not the network.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from epigram import atomic
from epigram.search import Real, Space, Whole

EPOCHS = 40
FLOOR = "accuracy>=0.95"
VALIDATION, CONFIRMATION = 300, 297
SPACE = Space(
    {
        "lr": Real(3e-3, 0.5, log=True),
        "momentum": Real(0.5, 0.97),
        "l1": Real(1e-5, 2e-2, log=True),
        "hidden": Whole(4, 96, log=True),
        "grid": Real(0.01, 0.5, log=True),
        "decay": Real(0.0, 1.0),
    }
)
SAFE = {"lr": 0.05, "momentum": 0.9, "l1": 1e-4, "hidden": 64, "grid": 0.05, "decay": 0.5}


@functools.cache
def data() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Fit, validation and confirmation."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.RandomState(0).permutation(len(x))
    x, y = (x / 16.0 - 0.3)[order].astype(np.float32), y[order]
    ends = [len(x) - VALIDATION - CONFIRMATION, len(x) - CONFIRMATION]
    return tuple(zip(np.split(x, ends), np.split(y, ends), strict=True))


def run(values: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """One trial: its curve, and what it came to (on validation and on confirmation)."""
    (x, y), validation, confirmation = data()
    generator = np.random.default_rng(seed)
    hidden = int(values["hidden"])
    weights = [
        generator.normal(0, 64**-0.5, (64, hidden)).astype(np.float32),
        np.zeros(hidden, np.float32),
        generator.normal(0, hidden**-0.5, (hidden, 10)).astype(np.float32),
        np.zeros(10, np.float32),
    ]
    speed = [np.zeros_like(w) for w in weights]
    curve = []
    for epoch in range(1, EPOCHS + 1):
        part = (epoch - 1) / EPOCHS
        lr = float(values["lr"]) * (1 - float(values["decay"]) * part)
        l1 = float(values["l1"]) * min(1.0, 4 * epoch / EPOCHS)
        order = generator.permutation(len(x))
        with np.errstate(all="ignore"):
            for rows in np.array_split(order, len(x) // 64):
                for w, v, g in zip(
                    weights, speed, _gradients(weights, x[rows], y[rows]), strict=True
                ):
                    np.multiply(v, float(values["momentum"]), out=v)
                    np.subtract(v, lr * g, out=v)
                    np.add(w, v, out=w)
                for w in weights[::2]:
                    w[...] = np.sign(w) * np.maximum(np.abs(w) - lr * l1, 0)
        rounded, size = _rounded(weights, float(values["grid"]))
        curve.append((round(_accuracy(rounded, *validation), 5), size))
    return {
        "values": dict(values),
        "seed": seed,
        "curve": curve,
        "accuracy": _accuracy(rounded, *validation),
        "size_bytes": size,
        "confirmation": _accuracy(rounded, *confirmation),
    }


def _gradients(weights: Sequence[np.ndarray], x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    w1, b1, w2, b2 = weights
    h = np.maximum(x @ w1 + b1, 0)
    logits = h @ w2 + b2
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    p /= len(y)
    back = (p @ w2.T) * (h > 0)
    return [x.T @ back, back.sum(0), h.T @ p, p.sum(0)]


def _accuracy(weights: Sequence[np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
    w1, b1, w2, b2 = weights
    with np.errstate(all="ignore"):
        logits = np.maximum(x @ w1 + b1, 0) @ w2 + b2
    if not np.isfinite(logits).all():
        return 0.1
    return float((logits.argmax(1) == y).mean())


@np.errstate(all="ignore")  # of weights that have run away, which are counted as they are
def _rounded(weights: Sequence[np.ndarray], grid: float) -> tuple[list[np.ndarray], float]:
    """The weights on a grid relative to their spread, and the bytes their symbols need."""
    size, found = 24.0, []
    for w in weights:
        step = grid * float(np.std(w)) if w.ndim == 2 else 0.05
        if not (math.isfinite(step) and step > 0 and np.isfinite(w).all()):
            found.append(np.zeros_like(w))
            size += 4.0 * w.size
            continue
        symbols = np.clip(np.round(w / step), -2000, 2000)
        found.append((symbols * step).astype(np.float32))
        _, counts = np.unique(symbols, return_counts=True)
        share = counts / w.size
        size += float(-(share * np.log2(share)).sum()) * w.size / 8 + 2.0 * len(counts)
    return found, round(size, 1)


def write_table(path: Path, trials: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """A table of curves that ``search_replay.py`` reads: one JSON object a line, the first about it."""
    lines = [json.dumps(about), *(json.dumps(trial) for trial in trials)]
    atomic.write_text(path, "\n".join(lines) + "\n")


def read_table(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What it is about, and its trials."""
    first, *lines = path.read_text("utf-8").splitlines()
    return json.loads(first), [json.loads(line) for line in lines]
