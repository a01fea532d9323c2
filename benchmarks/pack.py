"""Post-training coding against NNCodec: bytes and accuracy of pretrained ResNets, four points each.

    python benchmarks/pack.py --nncodec PYTHON [--images 2000] [--recipes resnet20/cifar10-jpeg ...]

At each of NNCodec's quantisation parameters (its defaults: trellis, vectors at qp -75), ours gets the relative
error of all weights that NNCodec's file has as its largest, so the two files are equally near to the
original; the accuracies on the first ``--images`` of the validation split say whether that is so for the
network too. The weights are the recipe's as they are, not trained further; the test set is not read.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import record
import torch

from codec import Other
from epigram.cli import asked
from epigram.evaluate import evaluate
from epigram.pipeline import packing

QPS = (-32, -28, -24, -20)


def main() -> int:
    """Measure the recipes asked for; figures of others in the results stay."""
    parser = argparse.ArgumentParser(description="Post-training coding against NNCodec.")
    parser.add_argument("--nncodec", required=True, metavar="PYTHON")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--recipes", nargs="*", default=["resnet20/cifar10-jpeg"])
    options = parser.parse_args()
    about = record.origin(seeds=[0])
    path = record.RESULTS / "pack.json"
    networks = json.loads(path.read_text("utf-8"))["networks"] if path.exists() else {}
    for name in options.recipes:
        networks[name] = {"images": options.images, "points": []}
        for point in points(name, options.images, Other(options.nncodec)):
            networks[name]["points"].append(point)
            print(name, json.dumps(point), flush=True)
            record.write_result("pack", about, {"networks": networks, "nncodec": "2.1.3"})
    return 0


def points(name: str, images: int, other: Other) -> Any:
    """One point after the other, the original first."""
    recipe = asked.named_recipe(name)
    model, split = recipe.build().eval(), recipe.load_data().validation
    part = (split.inputs[:images], split.targets[:images])
    state = {n: v.detach().numpy().copy() for n, v in model.state_dict().items()}
    floats = {n: v for n, v in state.items() if v.dtype.kind == "f" and v.ndim}

    def accuracy(values: dict[str, np.ndarray]) -> float:
        whole = {n: torch.from_numpy(np.array(values.get(n, v))) for n, v in state.items()}
        model.load_state_dict(whole)
        return round(evaluate(model, part, preprocess=recipe.preprocess).accuracy, 5)

    yield {
        "qp": None,
        "dense_bytes": 4 * sum(map(np.size, floats.values())),
        "accuracy": accuracy({}),
    }
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        np.savez(place / "in.npz", **floats)
        for qp in QPS:
            size, theirs = by_nncodec(other, place, floats, qp)
            error = relative_error(floats, theirs)
            start = time.process_time()
            packed = packing.pack(floats, max_error=error)
            size_bytes = len(packed.data)
            seconds = time.process_time() - start
            ours = {t.name: t.values() for t in packed.contents.tensors}
            yield {
                "qp": qp,
                "nncodec_bytes": size,
                "nncodec_relative_error": round(error, 5),
                "nncodec_accuracy": accuracy(theirs),
                "bytes": size_bytes,
                "relative_error": round(packed.relative_error, 5),
                "accuracy": accuracy(ours),
                "ratio": round(size_bytes / size, 4),
                "cpu_seconds": round(seconds, 2),
            }


def by_nncodec(
    other: Other, place: Path, floats: dict[str, np.ndarray], qp: int
) -> tuple[int, dict[str, np.ndarray]]:
    """Bytes and values of NNCodec's file of ``place/in.npz``."""
    loaded = other.ask(
        "load", source=str(place / "in.npz"), qp=qp, dq=True, out=str(place / "q.npz")
    )
    other.ask("decode", out=str(place / "back.npz"))
    back = np.load(place / "back.npz")
    return loaded["bytes"], {n: back[n].astype(np.float32) for n in floats}


def relative_error(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> float:
    weights = [n for n, v in before.items() if v.ndim > 1]
    lost = sum(float(np.square(before[n].astype(np.float64) - after[n]).sum()) for n in weights)
    return float((lost / sum(float(np.square(before[n]).sum()) for n in weights)) ** 0.5)


if __name__ == "__main__":
    sys.exit(main())
