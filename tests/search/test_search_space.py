"""Spaces: what they refuse, and that every value found in one is one that the settings take."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epigram import recipes
from epigram.errors import ConfigError
from epigram.search import Choice, Real, Space, Whole, dimensions, preset
from epigram.search.space import check_fits, current, resolve, widths_of

SPACE = Space(
    {
        "a": Real(0.01, 1.0, log=True),
        "b": Whole(3, 30),
        "c": Choice(("adam", None, True)),
        "d": Whole(1, 1000, log=True),
    }
)


@dataclasses.dataclass(frozen=True)
class Inner:
    epochs: int = 3
    lr: float = 0.1

    def __post_init__(self) -> None:
        if self.lr > 1:
            raise ConfigError(f"lr: got {self.lr}, expected at most 1")


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    name: str = "x"


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_every_point_is_inside_and_comes_back(shares: list[float]) -> None:
    values = SPACE.at(shares)
    assert SPACE.check(values) == values
    assert SPACE.nearest(values) == values
    assert len(SPACE.encode(values)) == len(SPACE.feature_names)
    assert Space.from_plain(SPACE.plain()).plain() == SPACE.plain()


def test_all_values_of_whole_numbers_and_choices_are_reached() -> None:
    generator = np.random.default_rng(0)
    seen = [SPACE.random(generator) for _ in range(600)]
    assert {v["b"] for v in seen} == set(range(3, 31))
    assert {v["c"] for v in seen} == {"adam", None, True}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1..3 log", Real(0.1, 3.0, log=True)),
        ("1..30", Whole(1, 30)),
        ("16..512:log", Whole(16, 512, log=True)),
        ("-1.5..2", Real(-1.5, 2.0)),
        ("adam|sgd", Choice(("adam", "sgd"))),
        ("none|0.5|3", Choice((None, 0.5, 3))),
    ],
    ids=["log", "whole", "whole-log", "negative", "words", "mixed"],
)
def test_dimensions_are_read_as_people_write_them(text: str, expected: object) -> None:
    assert dimensions.parse(text, where="x") == expected


@pytest.mark.parametrize("text", ["", "3", "3..1", "0..1 log", "a|a", "1..x", "adam|"])
def test_what_is_no_dimension_is_refused(text: str) -> None:
    if text == "adam|":
        assert dimensions.parse(text, where="x") == Choice(("adam", ""))
        return
    with pytest.raises(ConfigError, match=r"^x: "):
        dimensions.parse(text, where="x")


def test_a_space_that_the_settings_refuse_is_refused_before_the_first_trial() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown key 'inner.epoch'; did you mean 'inner.epochs'"
    ):
        check_fits(Space({"inner.epoch": Whole(1, 3)}), Outer())
    with pytest.raises(ConfigError, match=r"got 2.0, expected at most 1"):
        check_fits(Space({"inner.lr": Real(0.1, 2.0)}), Outer())
    with pytest.raises(ConfigError, match=r"widths.fc3"):
        check_fits(Space({"widths.fc3": Whole(1, 3)}), Outer(), {"fc1": 3})
    check_fits(Space({"inner.lr": Real(0.1, 0.5), "widths.fc1": Whole(1, 3)}), Outer(), {"fc1": 3})


def test_values_are_put_in_their_places() -> None:
    assert resolve(Outer(), {"inner.epochs": 9, "widths.fc1": 4}).inner.epochs == 9
    assert resolve({"a": {"b": 1}, "c": 2}, {"a.b": 5}) == {"a": {"b": 5}, "c": 2}
    assert widths_of({"inner.epochs": 9, "widths.fc1": 4}) == {"fc1": 4}
    names = ["inner.lr", "widths.fc1"]
    assert current(Outer(), names, {"fc1": 300}) == {"inner.lr": 0.1, "widths.fc1": 300}


def test_values_outside_are_put_on_the_border() -> None:
    inside = SPACE.nearest({"a": 7.0, "b": 2, "c": "sgd"})
    assert inside == {"a": 1.0, "b": 3, "c": None, "d": 32}
    with pytest.raises(ConfigError, match=r"^a: got 7.0, expected a value of 0.01..1 log"):
        SPACE.check({"a": 7.0, "b": 3, "c": None, "d": 1})


@pytest.mark.parametrize("name", ["lenet-300-100/mnist", "lenet-5/mnist", "resnet20/cifar10"])
def test_the_preset_fits_the_recipes(name: str) -> None:
    recipe = recipes.get(name)
    widths = recipes.widths(recipe)
    check_fits(preset(widths), recipe.settings, widths)


def test_a_recipe_with_other_widths_has_them() -> None:
    recipe = recipes.get("lenet-300-100/mnist")
    narrow = recipes.with_widths(recipe, {"fc1": 50})
    assert recipes.widths(narrow) == {"fc1": 50, "fc2": 100}
    shapes = {n: tuple(p.shape) for n, p in narrow.build().named_parameters()}
    assert shapes["fc1.weight"] == (50, 784)
    assert shapes["fc2.weight"] == (100, 50)
    assert recipes.widths(recipes.with_widths(narrow, {"fc2": 7})) == {"fc1": 50, "fc2": 7}
    with pytest.raises(ConfigError, match="expected one of fc1, fc2"):
        recipes.with_widths(recipe, {"fc9": 3})
    with pytest.raises(ConfigError, match="whole number"):
        recipes.with_widths(recipe, {"fc1": 0})
