"""Settings: what goes in comes out, and what is wrong is named."""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epigram.config import (
    ABSENT,
    bookkeeping,
    differences,
    dotted_keys,
    from_dict,
    help_of,
    identity,
    read_file,
    split_bookkeeping,
    to_dict,
    with_overrides,
)
from epigram.errors import ConfigError


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Cut:
    """Where to cut.

    Attributes:
        max_log_alpha: units above it
            go.
    """

    max_log_alpha: float = 3.0
    limit: float | None = None


@dataclass(frozen=True)
class Stage:
    epochs: int = 10
    rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    widths: tuple[int, ...] = (300, 100)
    nesterov: bool = False
    optimizer: Literal["adam", "sgd"] = "adam"
    colour: Colour = Colour.RED
    cut: Cut = Cut()

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ValueError(f"epochs: got {self.epochs}, expected 0 or more")


@dataclass(frozen=True)
class Run:
    seed: int = 0
    data: Path | None = None
    plain: Stage = Stage()
    structure: Stage | None = None
    weights: Mapping[str, float] = field(default_factory=dict)


stages = st.builds(
    Stage,
    epochs=st.integers(0, 10**6),
    rate=st.floats(allow_nan=False),
    betas=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    widths=st.lists(st.integers(), max_size=4).map(tuple),
    nesterov=st.booleans(),
    optimizer=st.sampled_from(["adam", "sgd"]),
    colour=st.sampled_from(Colour),
    cut=st.builds(Cut, st.floats(allow_nan=False), st.none() | st.floats(allow_nan=False)),
)
runs = st.builds(
    Run,
    seed=st.integers(),
    data=st.none() | st.sampled_from([Path("a/b"), Path("none-such")]),
    plain=stages,
    structure=st.none() | stages,
    weights=st.dictionaries(st.text(max_size=5), st.floats(allow_nan=False), max_size=3),
)


@given(runs)
def test_settings_survive_the_way_through_plain_data(run: Run) -> None:
    assert from_dict(Run, to_dict(run)) == run


@given(stages)
def test_settings_survive_the_way_through_a_yaml_file(
    tmp_path_factory: pytest.TempPathFactory, stage: Stage
) -> None:
    import yaml

    path = tmp_path_factory.mktemp("config") / "run.yaml"
    path.write_text(yaml.safe_dump({"plain": to_dict(stage)}), encoding="utf-8")
    assert with_overrides(Run(), read_file(path)).plain == stage


@pytest.mark.parametrize(
    ("flag", "text", "expected"),
    [
        ("plain.epochs", "30", 30),
        ("plain.rate", "1e-3", 0.001),
        ("plain.rate", "inf", math.inf),
        ("plain.betas", "0.5,0.9", (0.5, 0.9)),
        ("plain.widths", "[8, 4, 2]", (8, 4, 2)),
        ("plain.widths", "[]", ()),
        ("plain.nesterov", "yes", True),
        ("plain.nesterov", "False", False),
        ("plain.optimizer", "sgd", "sgd"),
        ("plain.colour", "blue", Colour.BLUE),
        ("plain.cut.limit", "none", None),
        ("plain.cut.limit", "-2", -2.0),
    ],
)
def test_text_from_a_flag_is_read_as_the_fields_own_type(
    flag: str, text: str, expected: object
) -> None:
    value: Any = with_overrides(Run(), {flag: text})
    for part in flag.split("."):
        value = getattr(value, part)
    assert value == expected
    assert type(value) is type(expected)


def test_overrides_leave_everything_else_alone() -> None:
    run = Run(seed=3, plain=Stage(epochs=5, cut=Cut(1.0)))
    changed = with_overrides(run, {"plain.epochs": "7", "plain": {"cut": {"limit": 2}}})
    assert changed == Run(seed=3, plain=Stage(epochs=7, cut=Cut(1.0, 2.0)))


def test_a_section_that_was_none_can_be_switched_on() -> None:
    assert with_overrides(Run(), {"structure.epochs": "4"}).structure == Stage(epochs=4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"plain": {"cut": {"max_logalpha": 1}}},
            "unknown key 'plain.cut.max_logalpha'; did you mean 'plain.cut.max_log_alpha'?",
        ),
        ({"epochs": 3}, "unknown key 'epochs'; did you mean 'plain.epochs'?"),
        ({"plain": {"epochs": "many"}}, "plain.epochs: got 'many', expected int"),
        ({"plain": {"epochs": 3.5}}, "plain.epochs: got 3.5, expected int"),
        ({"plain": {"epochs": True}}, "plain.epochs: got True, expected int"),
        ({"plain": {"epochs": -1}}, "plain: epochs: got -1, expected 0 or more"),
        ({"plain": {"rate": "nan"}}, "plain.rate: got 'nan', expected float"),
        ({"plain": {"nesterov": 1}}, "plain.nesterov: got 1, expected bool"),
        ({"plain": {"betas": [0.9]}}, "plain.betas: got [0.9], expected tuple[float, float]"),
        (
            {"plain": {"optimizer": "adma"}},
            "plain.optimizer: got 'adma', expected one of 'adam', 'sgd'; did you mean 'adam'?",
        ),
        ({"plain": {"colour": "gren"}}, "plain.colour: got 'gren', expected one of 'red', 'blue'"),
        ({"plain": 3}, "plain: got 3, expected a section of settings"),
        ({"seed": 1, "seed.x": 2}, "'seed.x': 'seed' is given both as a value and as a section"),
        ({"structure": {"epoch": 1}}, "unknown key 'structure.epoch'"),
    ],
)
def test_what_is_wrong_is_named_with_where_got_and_expected(
    wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        with_overrides(Run(), wrong)
    assert message in str(refusal.value)


def test_plain_data_is_not_guessed_at() -> None:
    with pytest.raises(ConfigError, match=r"epochs: got '3', expected int"):
        from_dict(Stage, {"epochs": "3"})


def test_a_key_without_default_must_be_given() -> None:
    @dataclass(frozen=True)
    class Needy:
        name: str

    with pytest.raises(ConfigError, match="missing key 'name'"):
        from_dict(Needy, {})


def test_nan_has_no_place_in_settings() -> None:
    with pytest.raises(ConfigError, match="rate: got NaN"):
        to_dict(Stage(rate=math.nan))


def test_identity_is_the_hash_of_the_documented_canonical_form() -> None:
    canonical = b'{"a":1,"b":{"c":[0.1,null],"d":"x"}}'
    mapping = {"b": {"d": "x", "c": (0.1, None)}, "a": 1.0}
    assert identity(mapping) == hashlib.sha256(canonical).hexdigest()


@given(stages, stages)
def test_identity_tells_settings_apart_exactly_when_they_differ(a: Stage, b: Stage) -> None:
    assert (identity(to_dict(a)) == identity(to_dict(b))) == (a == b)
    assert bool(differences(to_dict(a), to_dict(b))) == (a != b)


@dataclass(frozen=True)
class Logged:
    epochs: int = 3
    log_every: int | None = bookkeeping(10)


@dataclass(frozen=True)
class Logging:
    seed: int = 0
    verbose: bool = bookkeeping(True)
    plain: Logged = Logged()
    finetune: Logged | None = None
    stage: Stage = Stage()


def test_bookkeeping_is_split_off_section_by_section() -> None:
    settings = Logging(finetune=Logged(log_every=None))
    computed, kept = split_bookkeeping(settings)
    assert kept == {"verbose": True, "plain": {"log_every": 10}, "finetune": {"log_every": None}}
    assert computed == {
        "seed": 0, "plain": {"epochs": 3}, "finetune": {"epochs": 3}, "stage": to_dict(Stage()),
    }  # fmt: skip
    assert split_bookkeeping(Logging())[0]["finetune"] is None
    assert from_dict(Logging, computed) == Logging(finetune=Logged())
    with pytest.raises(ConfigError, match="expected an instance of a dataclass"):
        split_bookkeeping(Logging)


def test_differences_have_dotted_keys_and_mark_what_one_side_lacks() -> None:
    a = {"plain": {"epochs": 3, "rate": 0.1}, "seed": 0, "old": {}}
    b = {"plain": {"epochs": 5, "rate": 0.1}, "seed": 0, "new": {"x": 1}}
    assert differences(a, b) == {
        "plain.epochs": (3, 5),
        "old": ({}, ABSENT),
        "new.x": (ABSENT, 1),
    }


def test_every_setting_has_one_dotted_key() -> None:
    keys = list(dotted_keys(Run))
    assert {"seed", "plain.epochs", "structure.cut.limit", "weights"} <= set(keys)
    assert len(keys) == len(set(keys)) == 3 + 2 * (7 + 2)


def test_help_comes_from_the_docstring() -> None:
    assert help_of(Cut) == {"max_log_alpha": "units above it go."}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "not valid YAML"),
        (b"- 1\n- 2\n", "expected lines of 'key: value'"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_broken_config_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_file(path)


def test_a_missing_config_file_is_refused_and_an_empty_one_is_empty(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        read_file(tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").write_text("", encoding="utf-8")
    assert read_file(tmp_path / "empty.yaml") == {}
