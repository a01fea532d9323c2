"""Networks that are not what they seem: compiled, scripted, with weights that are computed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from epigram.convert import bayesianize
from epigram.errors import UnsupportedModelError
from epigram.structure.copying import copied

X = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


class Outer(nn.Module):
    """Layers around another module."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.before, self.inner, self.after = nn.Linear(8, 8), inner, nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.after(self.inner(self.before(x)).relu())
        return y


def test_a_module_that_compiled_itself_is_watched_as_it_was() -> None:
    inside, whole = Outer(network()), network()
    inside.inner.compile(backend="eager")
    whole.compile(backend="eager")
    for model in (inside, whole):
        before = [m._compiled_call_impl for m in model.modules()]
        twin = bayesianize(model, X)
        assert not twin.deterministic
        assert [m._compiled_call_impl for m in model.modules()] == before
        with torch.no_grad():
            torch.testing.assert_close(twin.eval()(X), model.eval()(X))
    assert twin.units_kept() == bayesianize(network(), X).units_kept()


def test_what_torch_compile_made_is_refused_with_the_way_on() -> None:
    compiled = torch.compile(network(), backend="eager")
    with pytest.raises(
        UnsupportedModelError, match=r"use the ordinary module, model\._orig_mod, and"
    ):
        bayesianize(compiled, X)
    with pytest.raises(
        UnsupportedModelError, match=r"^inner .* model\.inner\._orig_mod, and compile"
    ):
        bayesianize(Outer(compiled), X)
    assert bayesianize(compiled._orig_mod, X).units_kept()["0"] == (6, 6)


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
@pytest.mark.parametrize("how", ["script", "trace"])
def test_a_script_module_is_refused_with_the_way_on(how: str) -> None:
    plain = network()
    scripted = torch.jit.script(plain) if how == "script" else torch.jit.trace(plain, X)
    says = r"Module \(torch.jit\), expected an ordinary .* from \(a Sequential\)"
    for model, place in ((scripted, "the model"), (Outer(scripted), "inner")):
        with pytest.raises(UnsupportedModelError, match=f"^{place} is a .*{says}"):
            bayesianize(model, X, on_failure="leave")


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
def test_weights_that_a_backward_left_are_copied_as_numbers() -> None:
    """Old-style weight normalisation keeps the result of a computation, with its graph."""
    model = network()
    torch.nn.utils.weight_norm(model[0])
    model(X).sum().backward()
    twin = bayesianize(model, X)
    assert list(twin.deterministic) == ["0"]
    twin.train()(X).sum().backward()
    for other in (copied(model), twin.plain()):
        with torch.no_grad():
            torch.testing.assert_close(other.eval()(X), model(X))
            other[0].weight_g.mul_(2.0)
            assert not torch.allclose(other(X), model(X))
