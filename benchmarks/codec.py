"""The coder against others on the same integers: bytes, and processor time taken in turns.

    python benchmarks/codec.py --nncodec PYTHON [--resnet56 FILE] [--rounds 3] [--only NAME ...]

``PYTHON`` is an interpreter that has nncodec 2.1.3 (its own environment). Integers are NNCodec's own, at its
quantisation parameters, with its trellis (``dq``, its default) and without; those of the zoo's LeNet-5 are the
file's. The network of 25 million is of ResNet-50's shapes with drawn weights (normal, times log-normal rows
and columns), since nothing of that size ships with this repository.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import record
from constriction import stream
from safetensors.numpy import load_file

from epigram import artifact, codec
from epigram.cli import asked
from epigram.records import CodedTensor, FileContents

ROOT = Path(__file__).resolve().parents[1]
STEP = 2.0**-5


class Other:
    """NNCodec in its own interpreter."""

    def __init__(self, python: str) -> None:
        worker = Path(__file__).with_name("nncodec_worker.py")
        self._process = subprocess.Popen(
            [python, str(worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, do: str, **how: Any) -> dict[str, Any]:
        """One request."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **how}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the NNCodec process ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def main() -> int:
    """Measure what was asked for; figures of other cases in the results stay."""
    parser = argparse.ArgumentParser(description="The coder against others on the same integers.")
    parser.add_argument("--nncodec", required=True, metavar="PYTHON")
    parser.add_argument("--resnet56", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=["resnet56", "lenet5", "drawn25m"])
    options = parser.parse_args()
    about = record.origin(seeds=[0])
    path = record.RESULTS / "codec.json"
    cases = json.loads(path.read_text("utf-8"))["cases"] if path.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name, values, qp, dq in _cases(options):
            cases[name] = measure(
                Other(options.nncodec), values, qp, dq, options.rounds, Path(folder)
            )
            cases[name]["commit"] = about["commit"]
            print(name, json.dumps(cases[name]), flush=True)
            record.write_result("codec", about, {"cases": cases, "nncodec": "2.1.3"})
    return 0


def _cases(options: argparse.Namespace) -> Any:
    if "lenet5" in options.only:
        shapes = artifact.dense_shapes(asked.named_recipe("lenet-5/mnist").build())
        read = codec.decode((ROOT / "zoo/lenet-5-mnist.epg").read_bytes(), dense_shapes=shapes)
        values = {t.name: t.symbols for t in read.tensors if isinstance(t, CodedTensor)}
        yield "LeNet-5 of the zoo", values, -32, False
    if "resnet56" in options.only and options.resnet56 is not None:
        found = load_file(options.resnet56)
        state = {n: v.astype(np.float32) for n, v in found.items() if v.ndim}
        for dq in (True, False):
            for qp in (-32, -28, -24, -20):
                label = "trellis" if dq else "no trellis"
                yield f"ResNet-56, qp {qp}, {label}", state, qp, dq
    if "drawn25m" in options.only:
        yield "25.5 M drawn, qp -20, trellis", drawn(), -20, True


def drawn() -> dict[str, np.ndarray]:
    """Weights of ResNet-50's shapes."""
    rng, out = np.random.default_rng(0), {}
    shapes: list[tuple[int, ...]] = [(64, 3, 7, 7)]
    inside = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            shapes += [(width, inside, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            shapes += [(4 * width, inside, 1, 1)] if not block else []
            inside = 4 * width
    for place, shape in enumerate([*shapes, (1000, 2048)]):
        rest = (1,) * (len(shape) - 2)
        scale = rng.lognormal(0, 0.4, (shape[0], 1, *rest)) * rng.lognormal(
            0, 0.4, (1, shape[1], *rest)
        )
        fan = np.prod(shape[1:])
        weights = rng.normal(size=shape) * scale * np.sqrt(2 / fan)
        out[f"layer{place}.weight"] = weights.astype(np.float32)
    return out


def measure(
    other: Other,
    values: Mapping[str, np.ndarray],
    qp: int,
    dq: bool,
    rounds: int,
    folder: Path,
) -> dict[str, Any]:
    """One case."""
    np.savez(folder / "in.npz", **values)
    theirs = other.ask(
        "load", source=str(folder / "in.npz"), qp=qp, dq=dq, out=str(folder / "integers.npz")
    )
    found = np.load(folder / "integers.npz")
    integers = {name: found[name].astype(np.int32) for name in found.files}
    contents = FileContents(
        tuple(CodedTensor(name, v.shape, v, STEP) for name, v in integers.items())
    )
    shapes = {name: v.shape for name, v in integers.items()}
    estimate, seconds = codec.size_estimate(contents), {k: [] for k in _TIMES}
    data = codec.encode(contents)
    for turn in range(rounds):
        for which in _TIMES if turn % 2 else _TIMES[::-1]:
            if which.startswith("nncodec"):
                seconds[which].append(other.ask(which.removeprefix("nncodec_"))["seconds"])
                continue
            start = time.process_time()
            if which == "encode":
                codec.encode(contents)
            else:
                codec.decode(data, dense_shapes=shapes)
            seconds[which].append(time.process_time() - start)
    parts = codec.breakdown(data, dense_shapes=shapes)
    weights = [v for v in integers.values() if v.ndim > 1]
    return {
        "symbols": sum(v.size for v in integers.values()),
        "bytes": len(data),
        "nncodec_bytes": theirs["bytes"],
        "ratio": round(len(data) / theirs["bytes"], 4),
        "ideal_bytes": estimate.total,
        "weights_bytes": sum(parts.symbols.values()),
        "weights_entropy_bytes": round(sum(map(_entropy_bytes, weights))),
        "weights_constriction_bytes": sum(map(_static_bytes, weights)),
        "weights_constriction_tables": sum(2 * len(np.unique(v)) + 2 for v in weights),
        "cpu_seconds": {k: round(statistics.median(v), 4) for k, v in seconds.items()},
        "encode_time_ratio": _ratio(seconds["encode"], seconds["nncodec_encode"]),
        "decode_time_ratio": _ratio(seconds["decode"], seconds["nncodec_decode"]),
        "rounds": rounds,
    }


_TIMES = ("encode", "nncodec_encode", "decode", "nncodec_decode")


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3)


def _entropy_bytes(values: np.ndarray) -> float:
    counts = np.unique(values, return_counts=True)[1]
    return float(-(counts * np.log2(counts / values.size)).sum() / 8)


def _static_bytes(values: np.ndarray) -> int:
    """A range coder with the tensor's own counts as its table; the table is not in this figure."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        return 0
    encoder = stream.queue.RangeEncoder()
    model = stream.model.Categorical(counts.astype(np.float64), perfect=False)
    encoder.encode(places.ravel().astype(np.int32), model)
    return 4 * len(encoder.get_compressed())


if __name__ == "__main__":
    sys.exit(main())
