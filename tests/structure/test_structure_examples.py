"""What cannot be analysed as it is given is refused with where, got, expected and a remedy."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.errors import RemovalError, UnsupportedModelError
from epigram.structure import analyse, verify_removal

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(5))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def lazy() -> nn.Sequential:
    return nn.Sequential(nn.LazyLinear(6), nn.ReLU(), nn.Linear(6, 2))


def partly_scripted() -> nn.Sequential:
    return nn.Sequential(network(), torch.jit.script(nn.Linear(3, 3)))


REFUSED: dict[str, tuple[Callable[[], nn.Module], object, str]] = {
    "the wrong dtype": (
        network,
        X.double(),
        (
            r"Sequential.forward fails on the example: RuntimeError: mat1 and mat2 must have the same dtype.*; "
            r"got torch.float64 \[4, 6\], expected .*; its weights are torch.float32, so give"
        ),
    ),
    "the wrong width": (network, X[:, :5], r"fails on the example: .*; got torch.float32 \[4, 5\]"),
    "a list": (network, [X], r"must be Tensor, not list; got \['torch.float32 \[4, 6\]'\]"),
    "no argument": (network, (), "got no argument, expected what model"),
    "no example": (network, X[:0], r"is empty, got torch.float32 \[0, 6\].* at least one example"),
    "a nested tensor": (
        network,
        torch.nested.nested_tensor([X[:3], X], layout=torch.jagged),
        "got a nested tensor, .* expected a padded one",
    ),
    "a scripted layer": (
        partly_scripted,
        X,
        r"1 is a RecursiveScriptModule \(torch.jit\), .* expected an ordinary module.* \(a Linear\)",
    ),
    "a lazy layer": (lazy, X, r"0.weight is not there yet.*call the model once"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")
@pytest.mark.parametrize(("build", "example", "says"), REFUSED.values(), ids=REFUSED)
def test_an_example_or_network_that_does_not_do_is_refused(
    build: Callable[[], nn.Module], example: object, says: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=says):
        analyse(build(), example)
    structure = analyse(build(), example, on_failure="leave")
    (entry,) = structure.left_whole
    assert structure.groups == () and re.search(says, entry.reason)


class Width(nn.Module):
    """A width that is put out as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        h = F.relu(self.a(x))
        return self.b(h), h.shape[1]


def test_a_number_that_is_put_out_is_an_output_like_any_other() -> None:
    structure = analyse(Width(), X)
    assert structure.groups == ()
    (entry,) = structure.left_whole
    assert (entry.where, "output differs by" in entry.reason) == ("a", True)
    wide, narrow = Width(), Width()
    narrow.a, narrow.b = nn.Linear(6, 5), nn.Linear(5, 3)
    for parameter in (*wide.parameters(), *narrow.parameters()):
        nn.init.zeros_(parameter)
    with pytest.raises(RemovalError, match="the outputs differ by 3"):
        verify_removal(narrow, wide, X)


class Asserting(nn.Module):
    """Runs with its own weights, but not with others."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)
        nn.init.zeros_(self.a.weight)
        nn.init.zeros_(self.a.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        chosen = torch.arange(3, device=x.device)[h[:1, 0].abs().ceil().long() * 3]
        return self.b(h) + chosen


def test_a_network_that_fails_with_other_weights_is_refused() -> None:
    with pytest.raises(
        UnsupportedModelError, match=r"with random weights, as removals are tried, Asserting"
    ):
        analyse(Asserting(), X)


def test_outputs_that_are_no_numbers_say_so() -> None:
    model = network()
    nn.init.constant_(model[2].bias, float("nan"))
    with pytest.raises(
        RemovalError, match=r"both are not numbers \(NaN\).*are all weights and inputs finite"
    ):
        verify_removal(model, model, X)
    with pytest.raises(RemovalError, match="not a number where the other is one"):
        verify_removal(model, network(), X)
