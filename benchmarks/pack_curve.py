"""Post-training coding against NNCodec at equal accuracy: bytes by smooth curves through many points.

    python benchmarks/pack_curve.py --nncodec PYTHON [--recipes resnet20/cifar10-jpeg ...]

Files of equal size differ by a point of accuracy by chance, so four points of each coder say little. Here each has
one per quantisation parameter (NNCodec's defaults; ours at the relative error that NNCodec's weights have), judged on
the images of control and validation. Through both goes ``original - exp(a + b x + c x²)`` with x the logarithm of
the bytes; the ratio is read where both have the same accuracy, at four of them, and its interval is from redrawing
points (pairs bootstrap). The weights are the recipe's as they are; the test set is not read.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import record
import torch
from numpy.typing import NDArray
from pack import by_nncodec, relative_error

from codec import Other
from epigram.cli import asked
from epigram.evaluate import evaluate
from epigram.pipeline import packing

QPS = tuple(range(-33, -17))
DROPS = (0.5, 1.0, 2.0, 4.0)
"""Points of accuracy below the original's, in per cent, at which bytes are compared."""
REDRAWN = 1000

Floats = NDArray[np.float64]


def main() -> int:
    """Measure the recipes asked for; figures of others in the results stay."""
    parser = argparse.ArgumentParser(description="Packing against NNCodec at equal accuracy.")
    parser.add_argument("--nncodec", required=True, metavar="PYTHON")
    parser.add_argument("--images", type=int, default=5000, help="of each of the two splits")
    parser.add_argument("--recipes", nargs="*", default=["resnet20/cifar10-jpeg"])
    options = parser.parse_args()
    about = record.origin(seeds=[0])
    path = record.RESULTS / "pack_curve.json"
    networks = json.loads(path.read_text("utf-8"))["networks"] if path.exists() else {}
    for name in options.recipes:
        original, points = measured(name, options.images, Other(options.nncodec))
        networks[name] = {"accuracy": original, "points": points, **compared(original, points)}
        record.write_result("pack_curve", about, {"networks": networks, "nncodec": "2.1.3"})
        print(name, json.dumps(networks[name]["at"], indent=1), flush=True)
    return 0


def measured(name: str, images: int, other: Other) -> tuple[float, list[dict[str, Any]]]:
    """The original's accuracy, and bytes and accuracy of both coders at each parameter."""
    recipe = asked.named_recipe(name)
    model, splits = recipe.build().eval(), recipe.load_data()
    state = {n: v.detach().numpy().copy() for n, v in model.state_dict().items()}
    floats = {n: v for n, v in state.items() if v.dtype.kind == "f" and v.ndim}

    def accuracy(values: dict[str, NDArray[np.float32]]) -> float:
        whole = {n: torch.from_numpy(np.array(values.get(n, v))) for n, v in state.items()}
        model.load_state_dict(whole)
        parts = [
            (p.inputs[:images], p.targets[:images]) for p in (splits.control, splits.validation)
        ]
        right = [evaluate(model, p, preprocess=recipe.preprocess).accuracy for p in parts]
        return float(np.average(right, weights=[len(p[1]) for p in parts]))

    original, points = accuracy({}), []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        np.savez(place / "in.npz", **floats)
        for qp in QPS:
            size, theirs = by_nncodec(other, place, floats, qp)
            error = relative_error(floats, theirs)
            packed = packing.pack(floats, max_error=error)
            points.append(
                {
                    "qp": qp,
                    "relative_error": round(error, 5),
                    "nncodec": {"bytes": size, "accuracy": accuracy(theirs)},
                    "ours": {
                        "bytes": len(packed.data),
                        "accuracy": accuracy({t.name: t.values() for t in packed.contents.tensors}),
                    },
                }
            )
            print(name, json.dumps(points[-1]), flush=True)
    return original, points


def compared(original: float, points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Ours over NNCodec's bytes at four accuracies, with 95 % intervals."""
    generator = np.random.default_rng(0)
    whole = np.arange(len(points))
    draws = [generator.choice(whole, len(whole)) for _ in range(REDRAWN)]
    ratios = [_ratios(original, [points[i] for i in rows]) for rows in (whole, *draws)]
    low, high = np.nanquantile(np.array(ratios[1:]), (0.025, 0.975), axis=0)
    return {
        "at": [
            {
                "drop_percent": drop,
                "ratio": round(float(ratios[0][k]), 4),
                "low": round(float(low[k]), 4),
                "high": round(float(high[k]), 4),
            }
            for k, drop in enumerate(DROPS)
        ],
        "spread_percent": {
            coder: round(100 * _curve(original, points, coder)[1], 3)
            for coder in ("nncodec", "ours")
        },
    }


def _ratios(original: float, points: Sequence[dict[str, Any]]) -> Floats:
    """Ours over theirs at each of the drops; NaN where a curve does not get there."""
    theirs, ours = (_curve(original, points, coder)[0] for coder in ("nncodec", "ours"))
    drops = np.log(np.array(DROPS) / 100)
    found: Floats = np.exp(_bytes_at(ours, drops) - _bytes_at(theirs, drops))
    return found


def _curve(original: float, points: Sequence[dict[str, Any]], coder: str) -> tuple[Floats, float]:
    """Coefficients c, b, a of the logarithm of the drop; and the standard deviation about it."""
    from scipy.optimize import least_squares

    x = np.log([p[coder]["bytes"] for p in points]) - _CENTRE
    y = np.array([p[coder]["accuracy"] for p in points])

    def off(c: Floats) -> Floats:
        return original - np.exp(np.clip(np.polyval(c, x), -30, 3)) - y

    fitted = least_squares(off, np.array([0.0, -3.0, -4.0]))
    spread = float(np.sqrt(np.square(fitted.fun).sum() / max(1, len(y) - 3)))
    return fitted.x, spread


_CENTRE = float(np.log(1e5))


def _bytes_at(curve: Floats, drops: Floats) -> Floats:
    """Logarithm of the bytes, on a grid; NaN where the curve has no such drop."""
    grid = np.linspace(-2.0, 3.0, 20_001)
    falls = np.polyval(curve, grid)
    down = falls[:-1] > falls[1:]
    found = []
    for drop in drops:
        hits = np.flatnonzero(down & (falls[:-1] >= drop) & (falls[1:] < drop))
        found.append(grid[hits[0]] if len(hits) else np.nan)
    return np.array(found)


if __name__ == "__main__":
    sys.exit(main())
