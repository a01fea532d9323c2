"""NNCodec behind a pipe: run by ``codec.py`` and ``pack.py`` with the Python that has it installed.

One request a line (JSON), one answer a line. Its frameworks for training are not needed and not imported.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import Any
from unittest.mock import MagicMock

import numpy as np

for _name in ("", ".pytorch_model", ".tensorflow_model", ".use_case_init"):
    sys.modules["nncodec.framework" + _name] = MagicMock()

from nncodec import nnc, nnc_core  # noqa: E402


def main() -> None:
    """Answer until the pipe closes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the library prints
    kept: dict[str, Any] = {}
    for line in sys.stdin:
        request = json.loads(line)
        with contextlib.redirect_stdout(sys.stderr):
            answer = globals()[request.pop("do")](kept, **request)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def load(kept: dict[str, Any], *, source: str, qp: int, dq: bool, out: str) -> dict[str, Any]:
    """Quantise a ``.npz`` of arrays; writes the integers to ``out``. Integer arrays stay as they are."""
    arrays = np.load(source)
    kept["parameters"] = {name: arrays[name] for name in arrays.files}
    kept["how"] = {"qp": qp, "use_dq": dq, "row_skipping": True, "return_bitstream": True}
    original = nnc_core.coder.encode

    def capture(**given: Any) -> Any:
        kept["given"] = given
        data = given["approx_data"]["parameters"]
        kept["integers"] = {name: np.array(value) for name, value in data.items()}
        return original(**given)

    nnc_core.coder.encode = capture
    try:
        kept["stream"] = nnc.compress(kept["parameters"], bitstream_path=None, **kept["how"])
    finally:
        nnc_core.coder.encode = original
    np.savez(out, **kept["integers"])
    return {"bytes": len(kept["stream"])}


def encode(kept: dict[str, Any]) -> dict[str, float]:
    """Processor seconds of entropy coding alone, the integers being there."""
    start = time.process_time()
    nnc_core.coder.encode(**kept["given"])
    return {"seconds": time.process_time() - start}


def decode(kept: dict[str, Any], *, out: str | None = None) -> dict[str, float]:
    """Processor seconds from the stream to arrays; the arrays go to ``out`` where one is given."""
    start = time.process_time()
    found = nnc.decompress(kept["stream"])
    took = time.process_time() - start
    if out is not None:
        np.savez(out, **found)
    return {"seconds": took}


if __name__ == "__main__":
    main()
