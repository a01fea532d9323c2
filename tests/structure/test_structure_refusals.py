"""What cannot be removed exactly is left whole, and the operation in the way is named."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.errors import ConfigError, RemovalError, UnsupportedModelError
from epigram.records import LeftWhole
from epigram.structure import analyse, mask_units, rebase, remove_units, slice_plan, verify_removal

IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Between(nn.Module):
    """Two convolutions and an operation between them."""

    def __init__(self, operation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3)
        self.head, self.operation = nn.Linear(6, 3), operation

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.operation(self.first(x))).amax((2, 3)))


def left(model: nn.Module, example: Tensor = IMAGES) -> dict[str, LeftWhole]:
    return {entry.where: entry for entry in analyse(model, example).left_whole}


MIXING: list[tuple[str, Callable[[Tensor], Tensor]]] = [
    ("softmax", lambda t: t.softmax(1)),
    ("log_softmax", lambda t: F.log_softmax(t, 1)),
    ("cumsum", lambda t: t.cumsum(1)),
    ("sort", lambda t: t.sort(1)[0]),
    ("layer_norm", lambda t: F.layer_norm(t, t.shape[1:])),
    ("group_norm", lambda t: F.group_norm(t, 2)),
    ("linalg_vector_norm", lambda t: F.normalize(t, dim=1)),
    ("mean", lambda t: t - t.mean(1, keepdim=True)),
    ("matmul", lambda t: (t.flatten(2) @ t.flatten(2).mT @ t.flatten(2)).view_as(t)),
    ("einsum", lambda t: torch.einsum("bchw,bdhw->bchw", t, t)),
    ("fft_fft", lambda t: torch.fft.fft(t, dim=1).real),
    ("pad", lambda t: F.pad(t, (0, 0, 0, 0, 0, 1))[:, :4]),
    ("index", lambda t: t[:, [1, 0, 3, 2]]),
    ("add", lambda t: t + torch.arange(4.0).reshape(1, 4, 1, 1)),
    ("pad", lambda t: F.local_response_norm(t, 2)),
    ("roll", lambda t: t.roll(1, 1)),  # wrong only if the last unit goes
    ("slice", lambda t: torch.cat([t[:, -1:], t[:, :-1]], 1)),
]
KEEPING_APART: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax over positions": lambda t: t.softmax(-1),
    "layer_norm over positions": lambda t: F.layer_norm(t, t.shape[2:]),
    "products of every channel with itself": lambda t: t @ t.transpose(-1, -2) @ t,
    "einsum channel by channel": lambda t: torch.einsum("bchw,bcvw->bchv", t, t),
    "norm over positions": lambda t: t / t.norm(dim=(2, 3), keepdim=True),
    "gates": lambda t: t * torch.sigmoid(t.mean((2, 3), keepdim=True)),
    "glu of itself twice": lambda t: F.glu(torch.cat([t, t], 1), 1),
    "in place": lambda t: t.relu_().mul_(2.0).flip(1),
    "where": lambda t: torch.where(t > 0, t, t.exp()),
    "chunks that meet again": lambda t: torch.cat([p.tanh() for p in t.chunk(4, 1)], 1),
}


@pytest.mark.parametrize(("name", "operation"), MIXING)
def test_what_mixes_channels_pins_them_and_is_named(
    name: str, operation: Callable[[Tensor], Tensor]
) -> None:
    structure = analyse(Between(operation), IMAGES)
    assert [g.name for g in structure.groups] == ["second"]
    (entry,) = structure.left_whole
    assert (entry.where, entry.operation) == ("first", name)
    assert entry.reason


@pytest.mark.parametrize("operation", KEEPING_APART)
def test_what_keeps_channels_apart_is_no_obstacle(operation: str) -> None:
    structure = analyse(Between(KEEPING_APART[operation]), IMAGES)
    assert [(g.name, g.units) for g in structure.groups] == [("first", 4), ("second", 6)]
    assert not structure.left_whole


class Literal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 5), nn.Conv2d(4, 8, 5)
        self.fc1, self.fc2 = nn.Linear(128, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, 128)
        return self.fc2(F.relu(self.fc1(x)))


def test_a_literal_size_in_a_view_leaves_its_group_whole() -> None:
    structure = analyse(Literal(), torch.randn(2, 1, 28, 28))
    assert [g.name for g in structure.groups] == ["conv1", "fc1"]
    (entry,) = structure.left_whole
    assert (entry.where, entry.operation) == ("conv2", "view")
    assert "x = x.view(-1, 128)" in entry.reason
    assert structure.positions == ()


class Halves(nn.Module):
    """Both halves of a layer's channels, split where a number, an attribute or the tensor says."""

    def __init__(self, says: str) -> None:
        super().__init__()
        self.a, self.says, self.middle = nn.Conv2d(3, 8, 1), says, 4
        self.b, self.c = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        middle = x.shape[1] // 2 if self.says == "tensor" else 4
        middle = self.middle if self.says == "attribute" else middle
        return self.b(x[:, :middle]) + self.c(x[:, middle:])


def test_a_number_that_a_module_keeps_follows() -> None:
    model = Halves("attribute")
    structure = analyse(model, IMAGES)
    assert [g.units for g in structure.groups] == [4, 4] and not structure.left_whole
    keep = {"a": np.array([True, False, True, False]), "a:2": np.arange(4) < 3}
    small = remove_units(model, slice_plan(structure, keep))
    assert (small.middle, small.a.out_channels, model.middle) == (2, 5, 4)
    verify_removal(small, mask_units(model, structure, keep), IMAGES)
    keep_less = {"a": np.array([True, False])}
    again = remove_units(small, slice_plan(rebase(structure, keep), keep_less))
    assert (again.middle, again.a.out_channels) == (1, 4)


def test_a_literal_slice_lets_only_the_open_end_shrink() -> None:
    structure = analyse(Halves("literal"), IMAGES)
    assert [(e.where, e.operation) for e in structure.left_whole] == [("a", "slice")]
    (rest,) = structure.groups
    (producer,) = [m for m in rest.members if m.tensor == "a.weight"]
    np.testing.assert_array_equal(producer.index[:, 0], [4, 5, 6, 7])


def test_halves_that_would_have_to_shrink_alike_stay_whole() -> None:
    structure = analyse(Halves("tensor"), IMAGES)
    assert structure.groups == ()
    assert [entry.operation for entry in structure.left_whole] == ["slice", "slice"]


class Masked(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return F.linear(x, self.weight.tril(), self.bias)


def test_a_weight_computed_in_forward_pins() -> None:
    model = nn.Sequential(nn.Linear(6, 8), Masked(8, 8), nn.Linear(8, 2))
    entry = left(model, torch.randn(2, 6))["0"]
    assert entry.operation == "linear" and "computed in forward" in entry.reason


class Standardised(nn.Conv2d):
    """A convolution whose filters have mean zero and length one."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = centred / centred.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
        return F.conv2d(x, weight, self.bias)


def test_layers_whose_own_weight_is_computed_in_forward_are_named() -> None:
    """No ordinary layer stands before them that would be named for their sake."""
    model = nn.Sequential(Standardised(3, 6, 3), nn.ReLU(), Standardised(6, 4, 3))
    with_head = nn.Sequential(model, nn.Flatten(), nn.Linear(64, 2))
    for network, names in ((model, ["0", "2"]), (with_head, ["0.0", "0.2"])):
        structure = analyse(network, IMAGES)
        assert structure.groups == ()
        assert [entry.where for entry in structure.left_whole] == names
        assert all(
            entry.operation == "conv2d" and "computed in forward" in entry.reason
            for entry in structure.left_whole
        )
    parametrised = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)))
    assert [*left(parametrised, torch.randn(2, 6))] == ["0"]


def test_nothing_to_remove_always_has_a_reason() -> None:
    (entry,) = analyse(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), IMAGES).left_whole
    assert (entry.where, entry.operation) == ("forward", "output")
    assert "network's output" in entry.reason


class Choosing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(x) if x.sum() > 0 else x


@pytest.mark.parametrize(
    ("model", "example", "named"),
    [
        (Choosing(), torch.randn(2, 6), "Choosing.forward"),
        (nn.ReLU(), torch.randn(2, 6), "relu"),
        (nn.LSTM(4, 5), torch.randn(2, 3, 4), "lstm"),
        (nn.Linear(5, 6), torch.randn(2, 4), "Linear.forward"),
    ],
)
def test_nothing_to_be_done_is_an_error_that_names_why(
    model: nn.Module, example: Tensor, named: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UnsupportedModelError, match=named):
        analyse(model, example)
    assert capfd.readouterr().err == ""


def test_what_cannot_be_exported_names_the_line_and_the_way_on() -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        analyse(Choosing(), torch.randn(2, 6))
    message = str(caught.value)
    assert (
        "at `return self.a(x) if x.sum() > 0 else x` (test_structure_refusals.py, line" in message
    )
    assert "torch.where" in message and "on_failure='leave'" in message
    structure = analyse(Choosing(), torch.randn(2, 6), on_failure="leave")
    (entry,) = structure.left_whole
    assert structure.groups == () and "x.sum() > 0" in entry.reason
    assert "on_failure" not in entry.reason  # that is the way we are on


@pytest.mark.parametrize(
    ("keep", "says"),
    [
        ({"conv9": np.ones(4, dtype=bool)}, "unknown group 'conv9'"),
        ({"0": np.ones(3, dtype=bool)}, r"expected bool \(4,\)"),
        ({"0": np.ones(4)}, "float64"),
        ({"0": np.zeros(4, dtype=bool)}, "at least one"),
    ],
)
def test_wrong_masks_are_refused(keep: dict[str, np.ndarray], says: str) -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
    structure = analyse(model, torch.randn(2, 6))
    for call in (
        lambda: slice_plan(structure, keep),
        lambda: rebase(structure, keep),
        lambda: mask_units(model, structure, keep),
    ):
        with pytest.raises(ConfigError, match=says):
            call()


def test_a_wrong_removal_is_noticed() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
    structure = analyse(model, torch.randn(2, 6))
    small = remove_units(model, slice_plan(structure, {"0": np.array([True, True, True, False])}))
    other = mask_units(model, structure, {"0": np.array([False, True, True, True])})
    with pytest.raises(RemovalError, match="differ by"):
        verify_removal(small, other, torch.randn(3, 6))
    with pytest.raises(RemovalError, match="shapes"):
        verify_removal(nn.Linear(6, 3), model, torch.randn(3, 6))
    with torch.no_grad():
        small[1].bias[0] = float("nan")
    with pytest.raises(RemovalError, match="not a number"):
        verify_removal(small, other, torch.randn(3, 6))


class PerUnit(nn.Module):
    """Layers that work on every unit by itself: along positions, or image by image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.along = nn.Conv1d(3, 6, 1), nn.Linear(8, 8)
        self.each, self.head = nn.Conv1d(1, 1, 3, padding=1), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.along(self.stem(x)))
        batch, channels, length = x.shape
        x = self.each(x.reshape(batch * channels, 1, length)).reshape(batch, -1, length)
        return self.head(x.amax(2))


def test_layers_that_work_on_every_unit_by_itself_let_units_pass() -> None:
    model, example = PerUnit().double(), torch.randn(3, 3, 8, dtype=torch.float64)
    structure = analyse(model, example)
    assert [(g.name, g.units) for g in structure.groups] == [("stem", 6)]
    keep = {"stem": np.arange(6) % 2 == 0}
    small = remove_units(model, slice_plan(structure, keep))
    assert small.along.weight.shape == (8, 8)
    verify_removal(small, mask_units(model, structure, keep), example, tolerance=1e-10)


class Dangling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(6, 4), nn.Linear(6, 4)
        self.out = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.unused(x)
        return self.out(F.relu(self.used(x)))


def test_units_that_nobody_reads_or_that_hang_together_are_reported() -> None:
    structure = analyse(Dangling(), torch.randn(2, 6))
    assert [g.name for g in structure.groups] == ["used"]
    assert all("reads" in entry.reason for entry in structure.left_whole)
    paired = nn.Sequential(nn.Conv2d(4, 2, 1, groups=2), nn.Conv2d(2, 2, 1, groups=2))
    entry = left(nn.Sequential(nn.Conv2d(3, 4, 1), paired, nn.Conv2d(2, 1, 1)))["1.0"]
    assert "hang together" in entry.reason


class PicksByTable(nn.Module):
    """An integer buffer says where positions go; a float buffer scales channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(3, 4, 1), nn.Conv1d(4, 2, 1)
        self.register_buffer("order", torch.arange(7, -1, -1))
        self.register_buffer("gain", torch.rand(4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.second((self.first(x) * self.gain)[:, :, self.order])


def test_buffers_are_sliced_and_tables_of_indices_are_followed() -> None:
    structure = analyse(PicksByTable(), torch.randn(2, 3, 8))
    (group,) = structure.groups
    assert [(m.tensor, m.axis) for m in group.members if m.role == "carries"] == [("gain", 0)]
    small = remove_units(PicksByTable(), slice_plan(structure, {"first": np.arange(4) > 1}))
    assert small.gain.shape == (2, 1)


def test_a_layer_written_as_an_einsum_is_told_what_to_write() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 8), nn.Linear(7, 3)
            self.weight = nn.Parameter(torch.randn(7, 8))

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.einsum("bi,oi->bo", self.first(x).relu(), self.weight).relu())

    (left,) = analyse(Written(), torch.randn(2, 6)).left_whole
    assert (left.where, left.operation) == ("first", "einsum")
    assert "write it as F.linear" in left.reason
