"""Settings are valid or not built; the schedule is a pure function of the step."""

from __future__ import annotations

import math

import pytest

from epigram.config import from_dict, to_dict
from epigram.errors import ConfigError
from epigram.train import Schedule, TrainSettings


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("epochs", -1, "a whole number >= 0"),
        ("epochs", 1.5, "a whole number >= 0"),
        ("batch_size", 0, "a whole number >= 1"),
        ("batch_size", True, "a whole number >= 1"),
        ("optimizer", "adamax", "one of adam, adamw, sgd"),
        ("schedule", "cosin", "one of constant, cosine, linear, step"),
        ("learning_rate", 0.0, "a finite number > 0"),
        ("learning_rate", math.nan, "a finite number > 0"),
        ("learning_rate", "fast", "a finite number > 0"),
        ("momentum", 1.0, "a finite number >= 0 and < 1"),
        ("betas", (0.9, 1.0), r"two numbers in \[0, 1\)"),
        ("betas", (0.9,), r"two numbers in \[0, 1\)"),
        ("grad_clip", 0.0, "a finite number > 0"),
        ("grad_clip", math.inf, "a finite number > 0"),
        ("kl_warmup_epochs", -2.0, "a finite number >= 0"),
        ("kl_weight", -0.1, "a finite number >= 0"),
        ("kl_warmup_shape", "square", "one of linear, cosine"),
        ("amp", "fp16", "one of none, bf16"),
        ("clamp", 1, "true or false"),
        ("guard_every_steps", -1, "a whole number >= 0"),
        ("checkpoint_every_seconds", 0.0, "a finite number > 0"),
    ],
)
def test_a_wrong_value_is_refused_by_name(field: str, value: object, expected: str) -> None:
    settings = TrainSettings()
    object.__setattr__(settings, field, value)  # past the tests' own check of types
    with pytest.raises(ConfigError, match=rf"TrainSettings\.{field}: got .*, expected {expected}"):
        settings.__post_init__()


def test_a_wrong_value_is_not_built() -> None:
    with pytest.raises(ConfigError, match=r"TrainSettings\.epochs: got -1"):
        TrainSettings(epochs=-1)


def test_every_stabiliser_can_be_switched_off() -> None:
    TrainSettings(
        grad_clip=None,
        clamp=False,
        kl_warmup_epochs=0.0,
        lr_warmup_epochs=0.0,
        guard_every_steps=0,
        checkpoint_every_seconds=None,
    )


def test_settings_survive_a_config_file() -> None:
    settings = TrainSettings(optimizer="sgd", grad_clip=2.0, betas=(0.8, 0.99))
    assert from_dict(TrainSettings, to_dict(settings)) == settings


def _rates(**settings: object) -> list[float]:
    plan = Schedule(TrainSettings(epochs=10, learning_rate=0.5, **settings), 20)
    return [plan.learning_rate(step) for step in range(200)]


def test_constant_and_step() -> None:
    assert set(_rates(schedule="constant")) == {0.5}
    rates = _rates(schedule="step", step_epochs=4, step_factor=0.1)
    assert rates[79] == 0.5
    assert rates[80] == pytest.approx(0.05)
    assert rates[199] == pytest.approx(0.005)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_decays_pass_half_way_in_the_middle_and_end_where_told(schedule: str) -> None:
    rates = _rates(schedule=schedule, final_factor=0.2)
    assert rates[0] == 0.5
    assert rates[100] == pytest.approx(0.5 * 0.6)
    assert rates == sorted(rates, reverse=True)
    plan = Schedule(
        TrainSettings(epochs=10, learning_rate=0.5, schedule=schedule, final_factor=0.2), 20
    )
    assert plan.learning_rate(200) == pytest.approx(0.1)


def test_warmup_multiplies_the_schedule() -> None:
    rates = _rates(schedule="constant", lr_warmup_epochs=2.0)
    assert rates[0] == pytest.approx(0.5 / 40)
    assert rates[19] == pytest.approx(0.25)
    assert rates[39:] == [0.5] * 161


def test_kl_weight_follows_its_warmup() -> None:
    plan = Schedule(TrainSettings(epochs=10, kl_weight=2.0, kl_warmup_epochs=4.0), 20)
    assert [plan.kl_weight(step) for step in (0, 20, 80, 199)] == [0.0, 0.5, 2.0, 2.0]


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_cycles_begin_where_the_whole_decay_stands_and_end_as_low(schedule: str) -> None:
    once = _rates(schedule=schedule, final_factor=0.1)
    rates = _rates(schedule=schedule, final_factor=0.1, cycles=4)
    for first in (0, 50, 100, 150):
        cycle = rates[first : first + 50]
        assert cycle[0] == pytest.approx(once[first])
        assert cycle == sorted(cycle, reverse=True)
        assert cycle[-1] < 0.2 * once[first]
    plan = Schedule(TrainSettings(epochs=10, cycles=4), 20)
    assert [plan.cycle(epoch) for epoch in (0, 2, 3, 5, 10)] == [
        (0, 0.0), (0, 0.8), (1, 0.2), (2, 0.0), (4, 0.0)
    ]  # fmt: skip
