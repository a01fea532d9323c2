"""Packing with a network and its data: floors and calibration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.pipeline.tiny_recipe import TinyNet, recipe

from epigram import codec
from epigram.errors import ConfigError
from epigram.pipeline import calibration, packing

State = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def trained() -> State:
    torch.manual_seed(0)
    model, fit = TinyNet(), recipe().load_data().fit
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(80):
        loss = F.cross_entropy(model(fit.inputs), fit.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}


def _pack(state: State, **how: object) -> tuple[packing.Packed, dict[str, float]]:
    usual = {"floor": None, "size_bytes": None, "max_error": None, "calibration": 0}
    return calibration.pack_with_data(state, recipe(), **(usual | how))  # type: ignore[arg-type]


def test_the_coarsest_file_that_holds_the_floor_on_control(trained: State) -> None:
    packed, figures = _pack(trained, floor="accuracy>=0.9")
    assert packed.met and figures["validation_value"] >= 0.9
    fine, _ = _pack(trained, max_error=0.02)
    assert len(packed.data) < 0.7 * len(fine.data)
    read = codec.decode(packed.data)
    model = calibration.fill(TinyNet(), read)
    control = recipe().load_data().control
    accuracy = (model(control.inputs).argmax(1) == control.targets).double().mean()
    assert float(accuracy) >= 0.9


def test_a_floor_out_of_reach_leaves_the_nearest_file(trained: State) -> None:
    packed, figures = _pack(trained, floor="accuracy>=1.0")
    assert not packed.met and packed.data and figures["validation_value"] < 1.0


def test_calibration_lowers_the_error_that_the_information_weighs(trained: State) -> None:
    """At the same size; that the network then answers better is not promised (docs/log.md)."""
    plain, weighted = (_pack(trained, size_bytes=400, calibration=n)[0] for n in (0, 200))
    model = TinyNet()
    model.load_state_dict({n: torch.from_numpy(v) for n, v in trained.items()})
    information = calibration.fisher(model, recipe().load_data().fit.inputs[:200])

    def weighed(packed: packing.Packed) -> float:
        values = {t.name: t.values() for t in packed.contents.tensors}
        return sum(
            float((information[n] * np.square(trained[n] - values[n])).sum()) for n in information
        )

    assert weighed(weighted) < weighed(plain)
    assert weighted.relative_error > plain.relative_error


def test_the_information_is_that_of_the_exact_diagonal() -> None:
    """A linear classifier: the diagonal is the mean of p(1 - p) x², to within its own sampling noise."""
    torch.manual_seed(1)
    model = torch.nn.Linear(4, 3, bias=False)
    inputs = torch.randn(4000, 4) * torch.tensor([0.1, 1.0, 2.0, 4.0])
    p = model(inputs).softmax(1)
    exact = ((p * (1 - p)).T @ inputs.square()).detach().double().numpy()
    got = calibration.fisher(model, inputs)["weight"]
    exact = exact + 0.05 * exact.mean()
    np.testing.assert_allclose(got, exact / exact.mean(), rtol=0.25)


def test_a_checkpoint_of_another_network_is_told(trained: State) -> None:
    with pytest.raises(ConfigError, match="fc1"):
        _pack({"fc1.weight": np.zeros((2, 2), np.float32)}, max_error=0.1)
    with pytest.raises(ConfigError, match="exactly one"):
        packing.pack(trained, size_bytes=1, max_error=0.1)
