"""What a twin makes of the model and the example it is given: both stay as they are, or say what is wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.convert import bayesianize
from epigram.errors import UnsupportedModelError
from epigram.structure import OnFailure, mask_units

X = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.c(F.relu(self.b(F.relu(self.a(x)))))
        return y


class Keeps(Layers):
    table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.linspace(1, 2, 5)
        self.features = F.relu(self.a(x * self.table))
        y: Tensor = self.c(F.relu(self.b(self.features)))
        return y


class InPlace(Layers):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.sub_(0.5).div_(0.25))


@pytest.mark.parametrize("kind", [Keeps, InPlace])
def test_the_model_and_the_example_stay_as_they_are(kind: type[Layers]) -> None:
    model, example = kind().eval(), X.clone()
    before = set(vars(model))
    twin = bayesianize(model, example)
    assert (set(vars(model)), torch.equal(example, X)) == (before, True)
    assert set(twin.units_kept()) >= {"a", "b"}
    with torch.no_grad():
        torch.testing.assert_close(twin(X.clone()), model(X.clone()))
    twin.train()(X.clone()).sum().backward()
    twin.shrink_({"a": torch.arange(8).numpy() < 5})
    small = twin.plain().eval()  # although the twin keeps an activation with its graph
    with torch.no_grad():
        torch.testing.assert_close(small(X.clone()), twin.eval()(X.clone()))


class Stacked(Layers):
    def forward(self, xs: list[Tensor]) -> Tensor:
        return super().forward(torch.stack(xs).mean(0))


class Named(Layers):
    def forward(self, xs: dict[str, Tensor]) -> Tensor:
        return super().forward(xs["one"] + xs["other"])


class Neighbours(Layers):
    def forward(self, adjacency: Tensor, x: Tensor) -> Tensor:
        return super().forward(adjacency @ x)


class OfSizes(Layers):
    """A list of examples, of different sizes."""

    def forward(self, xs: list[Tensor]) -> Tensor:
        return super().forward(torch.stack([x.mean(0) for x in xs]))


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


CALLS: dict[type[Layers], Callable[[int], tuple[Any, ...]]] = {
    Stacked: lambda n: ([draw(n, 5), draw(n, 5)],),
    Named: lambda n: ({"one": draw(n, 5), "other": draw(n, 5)},),
    Neighbours: lambda n: (draw(5, 5), draw(n, 5, 5)),
    OfSizes: lambda n: ([draw(3 + i, 5) for i in range(n)],),
}


@pytest.mark.parametrize("kind", CALLS)
def test_the_examples_are_found_wherever_they_are(kind: type[Layers]) -> None:
    twin = bayesianize(kind(), CALLS[kind](4))
    assert twin.unscaled == {}
    for count in (4, 6):
        outputs = twin.train()(*CALLS[kind](count))
        assert outputs.shape[0] == count
        outputs.sum().backward()


class Chooses(Layers):
    """The example passes as a whole; another batch may not."""

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.b(F.relu(self.a(x))[x[:, 0] > -2]) + 1)
        y: Tensor = self.c(h * 2)
        return y


def test_no_scale_acts_on_rows_that_values_choose() -> None:
    assert (X[:, 0] > -2).all()
    twin = bayesianize(Chooses(), X)
    assert twin.unscaled == {
        "a": "b reads rows that values choose",
        "b": "c reads rows that values choose",
    }
    other = X.clone()
    other[0, 0] = -3.0
    assert twin.train()(other).shape == (3, 3)


class Columns(Layers):
    """A mask of columns, and one that is filled in by values, leave the examples where they are."""

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x[:, torch.arange(5) >= 0]))
        positive, filled = x[:, 0] > 0, torch.zeros(len(x), 7)
        filled[positive] = self.b(h)[positive]
        y: Tensor = self.c(F.relu(filled))
        return y


def test_a_choice_that_is_put_back_chooses_no_rows() -> None:
    assert bayesianize(Columns(), X).unscaled == {}


class Lazy(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.b = nn.LazyLinear(7)


class Complex(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(5, 8, dtype=torch.complex64)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.c(F.relu(self.b(self.a(x.to(torch.complex64)).abs())))
        return y


class NotFinite(Layers):
    def __init__(self) -> None:
        super().__init__()
        self.b.weight.data[:2, 0] = float("nan")


class Locked(Layers):
    lock: ClassVar[Any]

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


REFUSED: dict[type[Layers], str] = {
    Lazy: r"^b is a LazyLinear that has not seen an input.*call the model once",
    Complex: r"^a: its weights are complex numbers .*complex64.*ignored_layers=\['a'\]",
    NotFinite: r"^b: 2 of its 56 weights are NaN or infinite, expected finite",
    Locked: r"cannot be copied .*; lock \(a lock\) is what cannot be: keep it outside",
}


@pytest.mark.parametrize("on_failure", ["raise", "leave"])
@pytest.mark.parametrize(("kind", "says"), REFUSED.items())
def test_models_without_a_twin_are_told_why(
    kind: type[Layers], says: str, on_failure: OnFailure
) -> None:
    with pytest.raises(UnsupportedModelError, match=says):
        bayesianize(kind(), X, on_failure=on_failure)


@pytest.mark.parametrize("on_failure", ["raise", "leave"])
def test_an_example_that_does_not_fit_is_shown(on_failure: OnFailure) -> None:
    says = r"fails on the example at .*got torch.float64 \[4, 5\].*its weights are torch.float32"
    with pytest.raises(UnsupportedModelError, match=says) as caught:
        bayesianize(Layers(), X.double(), on_failure=on_failure)
    assert "test_convert_examples.py" in str(caught.value)


def test_a_complex_layer_may_stay_as_it_is() -> None:
    twin = bayesianize(Complex(), X, ignored_layers=["a"])
    assert {name: kept[0] for name, kept in twin.units_kept().items()} == {"a": 8, "b": 7}
    twin.train()(X).sum().backward()


class Graph(nn.Module):
    """Its rows are nodes, and two of them have no place in an adjacency of seven."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.o = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        y: Tensor = self.o(adjacency @ F.relu(self.a(x)))
        return y


def test_a_twin_over_a_dense_adjacency_shrinks_and_trains() -> None:
    x, adjacency = draw(7, 5).double(), torch.rand(7, 7).double().round() + torch.eye(7)
    twin = bayesianize(Graph().double(), (x, adjacency)).eval()
    assert twin.example is not None
    assert [tuple(t.shape) for t in twin.example] == [(7, 5), (7, 7)]
    keep = {"a": torch.arange(8).numpy() > 2}
    expected = mask_units(twin.plain(), twin.structure, keep)(x, adjacency)
    twin.shrink_(keep)
    torch.testing.assert_close(twin(x, adjacency), expected)
    torch.testing.assert_close(twin.plain()(x, adjacency), expected)
    twin.train()(x, adjacency).sum().backward()


def test_two_examples_are_kept_where_they_are_enough() -> None:
    assert bayesianize(Layers(), X).example[0].shape == (2, 5)  # type: ignore[index]
