"""A description is the same in every process: addresses are refused, circles end, hashes have no say."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.pipeline.tiny_recipe import identity, recipe

from epigram.errors import ConfigError
from epigram.pipeline import compress_recipe
from epigram.pipeline.identity import describe

ROOT = Path(__file__).parents[2]


class Plain:
    """Says nothing of itself."""


@dataclass
class Holder:
    held: Any

    def __call__(self, x: Any) -> Any:
        return x


def closing_over(value: Any) -> Callable[[Any], Any]:
    return lambda x: (x, value)


@pytest.mark.parametrize(
    "hidden",
    [object(), Plain(), torch.Generator(), np.random.default_rng(0), threading.Lock()],
    ids=lambda hidden: type(hidden).__name__,
)
@pytest.mark.parametrize("wrap", [Holder, closing_over, lambda h: functools.partial(print, [h])])
def test_a_memory_address_is_refused(hidden: object, wrap: Callable[[Any], Any]) -> None:
    with pytest.raises(ConfigError, match=r"^loss_fn\..* at 0x.*memory address.* __repr__ says"):
        identity(loss_fn=wrap(hidden))


def test_a_memory_address_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"loss_fn\.closure\.value: got <.*Plain object"):
        compress_recipe(
            recipe(loss_fn=closing_over(Plain())), folder=tmp_path / "run", progress=None
        )
    assert not (tmp_path / "run").exists()


def test_circles_end() -> None:
    def count(n: int) -> int:
        return 0 if n == 0 else count(n - 1)

    held = Holder(None)
    held.held = [held]
    assert describe(held, "f")["held"] == ["(itself)"]
    assert describe(count, "f") == describe(count, "f")


HASHED = """
from tests.pipeline.test_pipeline_addresses import closing_over
from tests.pipeline.tiny_recipe import identity
words = {"fit", "control", "validation", "test", "train"}
print(identity(loss_fn=closing_over(words), metrics={w: len for w in words}))
"""


def test_another_process_with_other_hashes_comes_to_the_same_identity() -> None:
    """Two fresh interpreters, since the seed of hashes is set when one starts."""
    told = {
        subprocess.run(
            [sys.executable, "-c", HASHED],
            env={
                **os.environ,
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
            },
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
    assert len(told.pop().strip()) == 64
