"""A run is known again by everything that makes its result, and by nothing else."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st
from tests.contracts.other_settings import changed
from tests.pipeline.tiny_recipe import TinyNet, recipe, settings
from torch import Tensor, nn

from epigram import config, report
from epigram.data import Augment, Preprocess
from epigram.errors import ConfigError, InterruptedRunError, RunFolderError
from epigram.pipeline import CompressSettings, compress_recipe, evaluate_file
from epigram.pipeline.identity import describe, describe_network
from epigram.pipeline.job import job_config
from epigram.pipeline.source import tree_digest

ROOT = Path(__file__).parents[2]
BOOKKEEPING = {
    "checkpoint_every_epochs", "checkpoint_every_seconds", "guard_every_steps", "page",
    "tensorboard",
}  # fmt: skip
KEYS = sorted(config.dotted_keys(CompressSettings))


def identity(**more: Any) -> str:
    made = recipe(**more)
    return config.identity(json.loads(json.dumps(job_config(made, made.settings))))


@pytest.mark.parametrize("key", KEYS)
def test_a_setting_changes_the_identity_unless_it_is_bookkeeping(key: str) -> None:
    other = changed(settings(), key)
    assert other != settings()
    same = identity(settings=other) == identity()
    assert same == (key.rpartition(".")[2] in BOOKKEEPING)


@profile(max_examples=25)
@given(st.sets(st.sampled_from(KEYS), max_size=6))
def test_settings_do_not_make_up_for_each_other(keys: set[str]) -> None:
    other = functools.reduce(changed, sorted(keys), settings())
    only_bookkeeping = all(key.rpartition(".")[2] in BOOKKEEPING for key in keys)
    assert (identity(settings=other) == identity()) == only_bookkeeping


def worst(logits: Tensor, targets: Tensor) -> float:
    return float((logits.argmax(1) == targets).float().min())


PREPROCESS, AUGMENT = Preprocess(0.5, 0.25), Augment(shift=1)


@pytest.mark.parametrize(
    "more",
    [
        {"name": "tiny/other"},
        {"build": nn.Identity},
        {"load_data": len},
        {"loss_fn": F.nll_loss},
        {"loss_fn": functools.partial(F.cross_entropy, label_smoothing=0.1)},
        {"loss_fn": nn.CrossEntropyLoss()},
        {"metrics": {"worst": worst, "nll": F.nll_loss}},
        {"metrics": {"other": worst}},
        {"preprocess": None},
        {"preprocess": Preprocess(0.5, 0.26)},
        {"augment": replace(AUGMENT, shift=2)},
        {"augment": replace(AUGMENT, flip=True)},
        {"sources": ("json",)},
    ],
    ids=lambda more: next(iter(more)),
)
def test_every_part_of_the_recipe_changes_the_identity(more: dict[str, Any]) -> None:
    base: dict[str, Any] = {
        "preprocess": PREPROCESS, "augment": AUGMENT, "metrics": {"worst": worst},
    }  # fmt: skip
    assert identity(**base) != identity(**{**base, **more})
    again = {**base, "preprocess": Preprocess(0.5, 0.25), "augment": Augment(shift=1)}
    assert identity(**base) == identity(**again)


def loaded(folder: Path, text: str) -> ModuleType:
    """A user's module with this text; always of the same name and in the same place."""
    path = folder / "users_own.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("users_own", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["users_own"] = module
    exec(compile(text, str(path), "exec"), vars(module))  # never a .pyc of the text before
    return module


CHANGES = {
    "a function": """
def f(o, t):
    return {} * o
""",
    "a lambda": "f = lambda o, t: {} * o",
    "a lambda within a call": """
f = dict(
    g=lambda o, t:
        {} * o,
)["g"]
""",
    "the last line of a lambda": """
f = dict(
    g=lambda o, t: o.sum(
        0,
        {}),
    h=0)["g"]
""",
    "what is closed over": """
def make(w):
    return lambda o, t: w * o
f = make({})
""",
    "a function closed over": """
def g(o): return {}
def make(g):
    return lambda o, t: g(o)
f = make(g)
""",
    "a tensor closed over": """
import torch
def make(w):
    return lambda o, t: w * o
w = torch.zeros(10_000)
w[5_000] = {}
f = make(w)
""",
    "a member of a set": """
def make(w):
    return lambda o, t: o in w
f = make(set("ab") | set(str({})))
""",
    "a default": """
W = {}
def f(o, t, w=W):
    return w * o
""",
    "a keyword's default": """
W = {}
def f(o, t, *, w=W):
    return w * o
""",
    "a decorator": """
import functools
def times(g):
    @functools.wraps(g)
    def h(*a):
        return {} * g(*a)
    return h
@times
def f(o, t):
    return o
""",
    "what a decorator hides": """
import functools
@functools.cache
def f(o, t):
    return {} * o
""",
    "an argument of a partial": """
import functools
f = functools.partial(round, ndigits={})
""",
    "the class of an instance": """
class F:
    def __call__(self, o, t):
        return {} * o
f = F()
""",
    "the base of a class": """
class B:
    w = {}
class F(B):
    def __call__(self, o, t):
        return self.w
f = F()
""",
    "a field of an instance": """
class F:
    def __call__(self, o): return self.w
f = F()
f.w = {}
""",
    "a slot of an instance": """
class F:
    __slots__ = ("w",)
    def __call__(self, o): return self.w
f = F()
f.w = {}
""",
    "a function of an instance": """
class F:
    def __call__(self, o): return self.g(o)
f = F()
f.g = lambda o: {}
""",
    "whose method it is": """
class F:
    def g(self, o): return self.w
own = F()
own.w = {}
f = own.g
""",
    "a buffer of a module": """
import torch
f = torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, {}]))
""",
    "one of several steps": """
class Compose:
    def __init__(self, *steps): self.steps = steps
    def __call__(self, x): return x
f = Compose(len, lambda x: {} * x)
""",
    "a class made by type": """
def g(self, o): return {}
f = type("F", (), dict(__call__=g))()
""",
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_a_function_is_made_of_changes_its_description(what: str, tmp_path: Path) -> None:
    first, again, other = (
        json.dumps(describe(loaded(tmp_path, CHANGES[what].format(number)).f, "f"))
        for number in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_a_function_is_called_by_its_name(tmp_path: Path) -> None:
    module = loaded(tmp_path, "def f(o, t):\n    return o\n\nclass G:\n    def h(self): pass\n")
    name, _, digest = describe(module.f, "f").partition("#")
    assert name == "users_own.f"
    assert len(digest) == 16
    assert describe(module.G.h, "f").startswith("users_own.G.h#")
    assert describe(len, "f") == "builtins.len"
    assert describe(str.upper, "f") == "str.upper"
    nowhere: dict[str, Any] = {"__name__": "prompt"}
    exec("def f(o, t):\n    return o", nowhere)
    assert describe(nowhere["f"], "f") == "prompt.f"


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
from tests.pipeline.test_pipeline_identity import closing_over, identity
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


class Wide(TinyNet):
    """The same tensors, computed with in another way."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(super().forward(x))


class Activated(TinyNet):
    def __init__(self, activation: Any = F.relu, steps: tuple[int, ...] = (1, 2)) -> None:
        super().__init__()
        self.activation, self.steps, self.cache = activation, steps, object()


def test_a_network_is_more_than_its_values() -> None:
    def built(make: Callable[[], nn.Module]) -> dict[str, str]:
        torch.manual_seed(0)
        return describe_network(make())

    def differ(one: Callable[[], nn.Module], two: Callable[[], nn.Module]) -> set[str]:
        return {k for k, v in built(one).items() if v != built(two)[k]}

    assert differ(TinyNet, lambda: TinyNet().eval()) == set()
    assert differ(Activated, Activated) == set()
    assert differ(TinyNet, Wide) == {"class", "layers"}
    assert differ(Activated, lambda: Activated(F.gelu)) == {"layers"}
    assert differ(Activated, lambda: Activated(steps=(1, 3))) == {"layers"}
    assert differ(lambda: nn.Conv2d(1, 2, 3), lambda: nn.Conv2d(1, 2, 3, stride=2)) == {"layers"}
    assert differ(TinyNet, lambda: nn.Sequential(TinyNet())) == {"class", "layers", "values"}


def test_the_code_is_every_source_file_by_place_and_bytes(tmp_path: Path) -> None:
    def digest(**files: str) -> str:
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, text in files.items():
            path = root / name.replace("__", "/").replace("_py", ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tree_digest(root)

    base = digest(a_py="x", b__c_py="y")
    assert base == digest(b__c_py="y", a_py="x", b__notes="z")
    others = [
        digest(a_py="x", b__c_py="z"), digest(a_py="x", b__d_py="y"), digest(a_py="xy", b__c_py=""),
        digest(a_py="x", b__c_py="y", b__d_py=""), digest(a_py="x"),
    ]  # fmt: skip
    assert len({base, *others}) == 6


@pytest.mark.usefixtures("no_report")
def test_other_bookkeeping_goes_on_and_ends_with_the_same_bytes(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """A whole run (seconds): only its file shows that it ended as if nothing had been changed."""
    folder, result = finished
    kept = json.loads((folder / "config.json").read_text())
    assert kept["bookkeeping"]["structure"]["checkpoint_every_epochs"] == 1
    assert not BOOKKEEPING & set(kept["config"]["settings"]["structure"])
    asked = settings()
    for stage in ("plain", "structure", "finetune"):
        asked = config.with_overrides(
            asked, {stage: {"checkpoint_every_epochs": 4, "guard_every_steps": 7}}
        )
    told = compress_recipe(recipe(), asked, folder, progress=None)
    assert told == json.loads(json.dumps(result)), "a finished run is read"

    begun = settings(plain=replace(settings().plain, checkpoint_every_seconds=1e-3))
    with pytest.raises(InterruptedRunError):
        compress_recipe(recipe(), begun, tmp_path, progress=None, max_minutes=1e-3)
    compress_recipe(recipe(), asked, tmp_path, progress=None)
    assert (tmp_path / "model.epg").read_bytes() == (folder / "model.epg").read_bytes()


def test_what_other_code_made_is_read_but_not_gone_on_with(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes the page twice (seconds), since that is what a reader does."""
    folder, result = finished
    with pytest.raises(InterruptedRunError):
        compress_recipe(recipe(), folder=tmp_path / "begun", progress=None, max_minutes=1e-6)
    before = (folder / "model.epg").read_bytes()
    monkeypatch.setattr("epigram.pipeline.job.code", lambda: "0" * 16)
    with pytest.raises(RunFolderError, match="result was made by other code"):
        compress_recipe(recipe(), folder=folder, progress=None)
    with pytest.raises(RunFolderError, match="changed since; start in another folder"):
        compress_recipe(recipe(), folder=tmp_path / "begun", progress=None)
    assert (folder / "model.epg").read_bytes() == before
    told = evaluate_file(folder / "model.epg", recipe())
    assert told["test_error_percent"] == result["test_error_percent"]
    assert report.build(folder).is_file()
    found = report.compare([folder, tmp_path / "begun"], tmp_path / "compared")
    assert [difference.setting for difference in found.differences] == []
