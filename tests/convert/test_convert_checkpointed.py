"""Gradient checkpointing inside a twin: what is computed again sees the draws of its own forward pass."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from epigram.convert import PosteriorSettings, Twin, bayesianize
from epigram.errors import UnsupportedModelError

pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")

X = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
MODES = {"reentrant": {"use_reentrant": True}, "new": {"use_reentrant": False}}


class Checkpointed(nn.Module):
    """Scales that are read before a checkpointed block, in it, in a block inside of it, and behind it."""

    def __init__(self, how: dict[str, Any] | None) -> None:
        super().__init__()
        self.how = how
        self.first, self.beside = nn.Linear(5, 8), nn.Linear(8, 3)
        self.a, self.b, self.c, self.last = (
            nn.Linear(*sizes) for sizes in ((8, 8), (8, 6), (6, 8), (8, 3))
        )

    def run(self, block: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return block(x) if self.how is None else checkpoint(block, x, **self.how)

    def inner(self, x: Tensor) -> Tensor:
        return F.relu(self.c(F.relu(self.b(x))))

    def block(self, x: Tensor) -> Tensor:
        y = F.relu(self.a(x))
        return x + self.run(self.inner, y) + y

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        beside = self.beside(x)
        return self.last(self.run(self.block, x)) + beside


def twin_of(how: dict[str, Any] | None, **settings: Any) -> Twin:
    torch.manual_seed(0)
    twin = bayesianize(
        Checkpointed(how).double(), X, settings=PosteriorSettings(logvar_init=-2.0, **settings)
    )
    for name in twin.names:
        for parameter in twin.scale(name).parameters():
            parameter.data.add_(0.3)
    return twin.train()


def once(twin: Twin) -> None:
    twin(X).square().sum().backward()


def together(twin: Twin) -> None:
    first, second = twin(X), twin(X[:3])
    with torch.no_grad():
        twin(X)
    (first.square().sum() + second.sum()).backward()


def last_first(twin: Twin) -> None:
    first, second = twin(X).square().sum(), twin(X[:3]).sum()
    second.backward()
    first.backward()


def two_times(twin: Twin) -> None:
    loss = twin(X).square().sum()
    loss.backward(retain_graph=True)
    loss.backward()


def all_of_it(twin: Twin) -> None:
    how = twin.network.how or {"use_reentrant": False}
    checkpoint(twin, X.clone().requires_grad_(), **how).square().sum().backward()


def gradients(twin: Twin, way: Callable[[Twin], None]) -> dict[str, Tensor]:
    torch.manual_seed(1)
    way(twin)
    return {n: p.grad for n, p in twin.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("way", [once, together, last_first, two_times, all_of_it])
@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_those_without_checkpoints(mode: str, way: Callable[[Twin], None]) -> None:
    expected = gradients(twin_of(None), way)
    found = gradients(twin_of(MODES[mode]), way)
    assert found.keys() == expected.keys()
    assert any(name.startswith("scales.") for name in found)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("mode", MODES)
def test_with_the_horseshoe_and_without_stopping_early(mode: str) -> None:
    how = MODES[mode] if mode == "reentrant" else {**MODES[mode], "early_stop": False}
    expected = gradients(twin_of(None, prior="group-horseshoe"), once)
    found = gradients(twin_of(how, prior="group-horseshoe"), once)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-12, msg=name)


def forgotten(twin: Twin) -> None:
    losses = [twin(X).sum() for _ in range(17)]
    losses[0].backward()


def seeds_inside(twin: Twin) -> None:
    """The same place in two forward passes, whose draws before it differ."""
    twin.network.beside.register_forward_hook(lambda *_: torch.manual_seed(7) and None)
    first, _ = twin(X).sum(), twin(X).sum()
    first.backward()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("way", "more", "why"),
    [
        (once, {"preserve_rng_state": False}, "no forward pass is known"),
        (forgotten, {}, "at most 16 forward passes"),
        (seeds_inside, {}, "more than one forward pass began"),
    ],
)
def test_where_the_draw_cannot_be_told_it_is_refused(
    mode: str, way: Callable[[Twin], None], more: dict[str, bool], why: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=why):
        way(twin_of({**MODES[mode], **more}))


@pytest.mark.parametrize("mode", MODES)
def test_no_tensor_of_a_pass_is_kept_and_copies_remember_nothing(mode: str) -> None:
    twin = twin_of(MODES[mode])
    drawn: list[weakref.ref[Tensor]] = []
    scale = twin.scale(twin.names[0])

    def sees(*_: Any) -> None:
        assert scale.shared_draw is not None
        if scale.shared_draw.values is not None:
            drawn.append(weakref.ref(scale.shared_draw.values))

    handle = twin.network.last.register_forward_hook(sees)
    once(twin)
    handle.remove()
    gc.collect()
    assert drawn and drawn[0]() is None
    assert scale.recent.any
    for other in (copy.deepcopy(scale), pickle.loads(pickle.dumps(scale))):
        assert not other.recent.any
