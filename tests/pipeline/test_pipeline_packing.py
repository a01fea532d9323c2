"""Packing with a network and its data: floors and calibration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.pipeline.tiny_recipe import TinyConvNet, TinyNet, recipe

from epigram import codec
from epigram.errors import ConfigError, FloorError
from epigram.pipeline import Recipe, calibration, packing

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


def _pack(
    state: State, given: Recipe | None = None, **how: object
) -> tuple[packing.Packed, dict[str, float]]:
    usual = {"floor": None, "size_bytes": None, "max_error": None, "calibration": 0}
    return calibration.pack_with_data(state, given or recipe(), **(usual | how))  # type: ignore[arg-type]


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


def _deviating(state: State, *, validation: float = 1.0, shift: float = 0.0) -> Recipe:
    """The recipe with a metric of its own: how far the logits are from the checkpoint's, times a factor by split."""
    model, splits = TinyNet(), recipe().load_data()
    model.load_state_dict({n: torch.from_numpy(v) for n, v in state.items()})

    def deviation(logits: torch.Tensor, targets: torch.Tensor) -> float:
        steers = torch.equal(targets, splits.control.targets)
        inputs = (splits.control if steers else splits.validation).inputs
        with torch.no_grad():
            gap = float((logits - model(inputs)).abs().max())
        return gap + shift if steers else validation * gap

    return recipe(metrics={"deviation": deviation})


def test_validation_asks_for_finer_steps_than_control(trained: State) -> None:
    """A metric of the recipe's own, four times as strict on validation."""
    made = {}
    for factor in (1.0, 4.0):
        given = _deviating(trained, validation=factor)
        packed, figures = _pack(trained, given, floor="deviation<=0.5")
        assert packed.met and packed.reason is None and figures["validation_value"] <= 0.5
        made[factor] = packed
    assert made[1.0].step / 20 < made[4.0].step < made[1.0].step / 2
    assert len(made[4.0].data) > len(made[1.0].data)


def test_control_that_the_checkpoint_itself_misses_still_steers(trained: State) -> None:
    usual, _ = _pack(trained, _deviating(trained), floor="deviation<=0.5")
    shifted, figures = _pack(trained, _deviating(trained, shift=1.0), floor="deviation<=0.5")
    assert shifted.met and figures["control_value"] > 1.0
    assert shifted.step == pytest.approx(usual.step, rel=0.2)


def test_a_floor_that_no_step_holds_leaves_the_nearest_file_and_says_why(trained: State) -> None:
    packed, figures = _pack(trained, _deviating(trained), floor="deviation<=1e-7")
    assert not packed.met and packed.data
    assert 1e-7 < figures["validation_value"] < 0.1
    assert packed.reason is not None
    assert f"deviation {figures['validation_value']:g} on validation" in packed.reason


@pytest.mark.parametrize(
    ("floor", "error", "says"),
    [
        ("accuracy>=1.0", FloorError, "more than the checkpoint reaches: accuracy 0.9"),
        ("accuracy>=99", ConfigError, "at most 1"),
        ("acuracy>=0.9", ConfigError, "did you mean 'accuracy'"),
    ],
)
def test_a_floor_that_cannot_be_held_is_refused_before_any_trial(
    trained: State,
    monkeypatch: pytest.MonkeyPatch,
    floor: str,
    error: type[Exception],
    says: str,
) -> None:
    monkeypatch.setattr(calibration, "pack", lambda *a, **k: pytest.fail("a trial"))
    with pytest.raises(error, match=says):
        _pack(trained, floor=floor)


@pytest.mark.parametrize(("target", "value"), [("max_error", 1e-13), ("size_bytes", 5)])
def test_a_target_that_is_missed_says_what_was_reached(target: str, value: float) -> None:
    state = {"w": np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)}
    assert packing.pack(state, max_error=0.1).reason is None
    packed = packing.pack(state, **{target: value})  # type: ignore[arg-type]
    reached = len(packed.data) if target == "size_bytes" else f"{packed.relative_error:.3g}"
    assert not packed.met and str(reached) in str(packed.reason)


@pytest.mark.parametrize("how", [{"floor": "accuracy>=0.5"}, {"max_error": 0.1, "calibration": 8}])
def test_a_checkpoint_without_some_weights_is_refused(
    trained: State, how: dict[str, object]
) -> None:
    part = {name: value for name, value in trained.items() if name != "fc2.weight"}
    with pytest.raises(ConfigError, match=r"lacks fc2\.weight of TinyNet"):
        _pack(part, **how)


def test_counters_of_batches_may_be_missing() -> None:
    state = {n: v.numpy() for n, v in TinyConvNet().state_dict().items()}
    del state["norm.num_batches_tracked"]
    given = recipe(build=TinyConvNet)
    assert _pack(state, given, max_error=0.1, calibration=8)[0].met
    del state["norm.running_var"]
    with pytest.raises(ConfigError, match=r"norm\.running_var"):
        _pack(state, given, max_error=0.1, calibration=8)


class _Tied(TinyNet):
    def __init__(self) -> None:
        super().__init__()
        self.again = self.fc1


def test_tied_weights_need_one_of_their_names(trained: State) -> None:
    packed, _ = _pack(trained, recipe(build=_Tied), floor="accuracy>=0.9", calibration=8)
    assert packed.met


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


def test_parameters_that_the_network_does_not_use_have_no_information() -> None:
    model = TinyNet()
    model.unused = torch.nn.Linear(3, 2)
    found = calibration.fisher(model, recipe().load_data().fit.inputs[:8])
    assert np.isfinite(found["fc1.weight"]).all() and found["unused.weight"].max() < 1e-12
    assert calibration.fisher(model.requires_grad_(False), torch.zeros(2, 36)) == {}


def test_a_checkpoint_of_another_network_is_told(trained: State) -> None:
    with pytest.raises(ConfigError, match="fc1"):
        _pack({"fc1.weight": np.zeros((2, 2), np.float32)}, max_error=0.1)
    with pytest.raises(ConfigError, match="exactly one"):
        packing.pack(trained, size_bytes=1, max_error=0.1)
