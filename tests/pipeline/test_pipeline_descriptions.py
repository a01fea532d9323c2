"""Whatever a function or a network is made of changes its description."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.pipeline.tiny_recipe import TinyNet
from torch import Tensor, nn

from epigram.pipeline.identity import describe, describe_network


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
