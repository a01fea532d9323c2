"""Optimiser state is cut with its parameters; roles get their own step sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from epigram.errors import ConfigError
from epigram.train import TrainSettings, build_optimizer, slice_optimizer_state_
from epigram.train.optimizers import set_learning_rate_

KEPT_ROWS = torch.tensor([0, 2, 3])
KEPT_COLUMNS = torch.tensor([1, 4, 5, 6])


def _gradient(step: int, shape: torch.Size) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(step))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_going_on_after_cutting_equals_the_kept_part_of_going_on_uncut(
    optimizer: str, momentum: float
) -> None:
    settings = TrainSettings(optimizer=optimizer, momentum=momentum, weight_decay=0.01)
    start = torch.randn(5, 8)
    full, cut = (nn.Parameter(start.clone()) for _ in range(2))
    of_full, of_cut = (
        build_optimizer([{"params": [p], "role": "mean"}], settings) for p in (full, cut)
    )
    for step in range(12):
        full.grad = _gradient(step, full.shape)
        gradient = _gradient(step, full.shape)
        cut.grad = gradient if step < 6 else gradient[KEPT_ROWS][:, KEPT_COLUMNS].contiguous()
        of_full.step()
        of_cut.step()
        if step == 5:
            identity = id(cut)
            cut.data = cut.data[KEPT_ROWS][:, KEPT_COLUMNS].contiguous()
            slice_optimizer_state_(of_cut, cut, 0, KEPT_ROWS)
            slice_optimizer_state_(of_cut, cut, 1, KEPT_COLUMNS)
            assert cut.grad is None
            assert id(cut) == identity
    # vectorised kernels may round the last bit differently at another alignment
    torch.testing.assert_close(
        cut.detach(), full.detach()[KEPT_ROWS][:, KEPT_COLUMNS], rtol=1e-6, atol=1e-7
    )
    for value in of_cut.state[cut].values():
        if isinstance(value, torch.Tensor) and value.dim():
            assert value.shape == (3, 4)


def _after_a_step(kind: str, *shapes: tuple[int, ...]) -> torch.optim.Optimizer:
    parameters = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    optimizer = getattr(torch.optim, kind)(parameters)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.stack([p.square().sum() for p in parameters]).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return optimizer


@pytest.mark.parametrize("kind", ["NAdam", "RAdam", "Adagrad", "RMSprop", "Rprop", "ASGD"])
@pytest.mark.parametrize("replaced_first", [False, True])
def test_memory_of_a_parameters_shape_is_cut_whosever_it_is(
    kind: str, replaced_first: bool
) -> None:
    optimizer = _after_a_step(kind, (5, 8))
    (parameter,) = optimizer.param_groups[0]["params"]
    small = parameter.data[KEPT_ROWS][:, KEPT_COLUMNS].contiguous()
    if replaced_first:
        parameter.data = small
    slice_optimizer_state_(optimizer, parameter, 0, KEPT_ROWS)
    slice_optimizer_state_(optimizer, parameter, 1, KEPT_COLUMNS)
    parameter.data = small
    shapes = {v.shape for v in optimizer.state[parameter].values() if torch.is_tensor(v)}
    assert shapes <= {torch.Size([]), torch.Size([3, 4])}
    parameter.grad = torch.ones(3, 4)
    optimizer.step()


@pytest.mark.parametrize(
    ("kind", "shape", "axis", "says"),
    [
        ("Adafactor", (5, 8), 0, r"Adafactor keeps row_var \[5, 1\], col_var \[1, 8\]"),
        ("Adafactor", (5, 8), 1, r"Adafactor keeps row_var \[5, 1\]"),
        ("Adafactor", (1, 8), 1, r"shape \[1, 8\] now"),
        ("LBFGS", (5, 8), 0, r"LBFGS keeps d \[46\]"),
        ("LBFGS", (8,), 0, r"SGD, Adam, AdamW"),
    ],
)
def test_memory_of_another_shape_is_refused(
    kind: str, shape: tuple[int, ...], axis: int, says: str
) -> None:
    optimizer = _after_a_step(kind, shape, (6,))
    parameter, other = optimizer.param_groups[0]["params"]
    before = dict(optimizer.state[parameter])
    with pytest.raises(ConfigError, match=says):
        slice_optimizer_state_(optimizer, parameter, axis, torch.tensor([0]))
    assert all(optimizer.state[parameter][key] is value for key, value in before.items())
    if kind == "LBFGS":  # its memory is with the first parameter, of all of them
        with pytest.raises(ConfigError, match="one memory of all"):
            slice_optimizer_state_(optimizer, other, 0, torch.tensor([0]))


def test_forgetting_to_cut_would_be_noticed() -> None:
    parameter = nn.Parameter(torch.randn(5, 8))
    optimizer = build_optimizer([{"params": [parameter], "role": "mean"}], TrainSettings())
    parameter.grad = torch.ones(5, 8)
    optimizer.step()
    before = optimizer.state[parameter]["exp_avg"].clone()
    slice_optimizer_state_(optimizer, parameter, 0, KEPT_ROWS)
    assert torch.equal(optimizer.state[parameter]["exp_avg"], before[KEPT_ROWS])
    with pytest.raises(IndexError):
        slice_optimizer_state_(optimizer, parameter, 0, torch.tensor([3]))


def test_a_parameter_without_state_is_no_problem() -> None:
    parameter = nn.Parameter(torch.randn(5))
    optimizer = build_optimizer([{"params": [parameter], "role": "mean"}], TrainSettings())
    slice_optimizer_state_(optimizer, parameter, 0, KEPT_ROWS)
    assert parameter not in optimizer.state


def test_roles_have_their_own_step_sizes_and_decay() -> None:
    groups = [
        {"params": [nn.Parameter(torch.ones(2))], "role": role}
        for role in ("mean", "logvar", "scale")
    ]
    settings = TrainSettings(
        learning_rate=0.01, logvar_lr_factor=10.0, scale_lr_factor=3.0, weight_decay=0.5
    )
    optimizer = build_optimizer(groups, settings)
    set_learning_rate_(optimizer, 0.002)
    rates = {g["role"]: g["lr"] for g in optimizer.param_groups}
    assert rates == pytest.approx({"mean": 0.002, "logvar": 0.02, "scale": 0.006})
    decay = {g["role"]: g["weight_decay"] for g in optimizer.param_groups}
    assert decay == {"mean": 0.5, "logvar": 0.0, "scale": 0.0}


def test_nothing_to_optimise_is_refused() -> None:
    with pytest.raises(ConfigError, match="requires a gradient"):
        build_optimizer([{"params": [], "role": "mean"}], TrainSettings())


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)],
)
def test_the_optimisers_are_torchs(name: str, kind: type) -> None:
    group = {"params": [nn.Parameter(torch.ones(2))], "role": "mean"}
    assert type(build_optimizer([group], TrainSettings(optimizer=name))) is kind
