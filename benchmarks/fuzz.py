"""Hostile files without end: decoded or refused with an error of ours, soon, in little memory.

    nice -n 19 python benchmarks/fuzz.py --inputs 1000000

Three kinds: bytes of a valid file's stream changed under a mended checksum, values changed inside a stream
that stays well coded (``tests/attacks/mutations.py``), and noise. Counts go to ``results/fuzz.json`` as it
runs; started again, it goes on. An input that crashes or takes longer than ``--seconds`` is kept in ``--out``.
"""

from __future__ import annotations

import argparse
import collections
import importlib.util
import json
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

import record

from epigram import codec
from epigram.codec import container
from epigram.errors import FormatError

ROOT = Path(__file__).resolve().parents[1]
CHUNK = 2000


def _mutations() -> Any:
    path = ROOT / "tests" / "attacks" / "mutations.py"
    spec = importlib.util.spec_from_file_location("mutations", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> int:
    """Run until ``--inputs`` are reached; exit code 1 if anything but a refusal happened."""
    parser = argparse.ArgumentParser(description="Hostile files without end.")
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="of processor time for one input, at most"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "fuzz")
    parser.add_argument("--results", type=Path, default=record.RESULTS)
    options = parser.parse_args()
    about = record.origin(seeds=[0])
    saved = options.results / "fuzz.json"
    counts: collections.Counter[str] = collections.Counter()
    slowest, peak, chunk = 0.0, 0, 0
    if saved.exists():
        before = json.loads(saved.read_text("utf-8"))
        if before["commit"] == about["commit"] and not before["dirty"]:
            counts.update(before["counts"])
            slowest, peak, chunk = (
                before["slowest_seconds"],
                before["peak_rss_kb"],
                before["chunks"],
            )
    mutations = _mutations()
    corpus = mutations.corpus()
    for data, shapes in corpus:  # what is compiled at its first use is no input's fault
        _outcome(data, shapes, mutations.SMALL_LIMITS)
    while counts["inputs"] < options.inputs:
        rng = random.Random(chunk)
        for _ in range(CHUNK):
            data, shapes = rng.choice(corpus)
            kind = rng.choice(("bytes", "bytes", "values", "values", "noise"))
            if kind == "bytes":
                hostile = mutations.of_bytes(rng, data)
            elif kind == "values":
                hostile = mutations.of_values(rng, data, shapes)
            else:
                profile = rng.choice(("bare", "named"))
                hostile = container.wrap(rng.randbytes(rng.randrange(60)), profile)
            start = time.process_time()
            outcome = _outcome(hostile, shapes, mutations.SMALL_LIMITS)
            took = time.process_time() - start
            slowest = max(slowest, took)
            counts["inputs"] += 1
            counts[kind] += 1
            counts[outcome] += 1
            if outcome.startswith("crash") or took > options.seconds:
                options.out.mkdir(parents=True, exist_ok=True)
                (options.out / f"{chunk}-{counts['inputs']}.epg").write_bytes(hostile)
        chunk += 1
        peak = max(peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        figures = {
            "counts": dict(sorted(counts.items())),
            "slowest_seconds": round(slowest, 4),
            "peak_rss_kb": peak,
            "chunks": chunk,
        }
        record.write_result("fuzz", about, figures, folder=options.results)
    bad = sum(n for name, n in counts.items() if name.startswith("crash"))
    print(json.dumps(dict(sorted(counts.items()))), f"slowest {slowest:.3f} s, {peak} kB")
    return int(bad > 0 or slowest > options.seconds)


def _outcome(data: bytes, shapes: Any, limits: codec.Limits) -> str:
    try:
        codec.decode(data, dense_shapes=shapes if data[3] & 15 == 0 else None, limits=limits)
    except FormatError:
        return "refused"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return f"crash {type(error).__name__}"
    return "decoded"


if __name__ == "__main__":
    sys.exit(main())
