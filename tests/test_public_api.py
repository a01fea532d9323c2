"""The few public names: they exist, they are lazy, and they are the ones that are documented."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import epigram

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", epigram.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(epigram, name)
    assert value.__doc__


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'epigram' has no attribute 'compres'"):
        epigram.compres  # noqa: B018


def test_public_names_do_not_hide_rooms() -> None:
    rooms = {path.stem for path in Path(epigram.__file__).parent.iterdir()} - {"__init__"}
    assert not rooms & set(epigram.__all__)


def test_dir_lists_the_public_names() -> None:
    assert set(epigram.__all__) <= set(dir(epigram))


def test_the_version_is_the_projects() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{epigram.__version__}"' in project


def test_an_error_is_ours_and_a_builtin_too() -> None:
    errors = importlib.import_module("epigram.errors")
    ours = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]
    assert len(ours) > 5
    for error in set(ours) - {epigram.EpigramError}:
        assert issubclass(error, epigram.EpigramError)
        assert any(base.__module__ == "builtins" for base in error.__mro__[1:-3]), error


def test_the_changelog_tells_of_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[(Unreleased|{re.escape(epigram.__version__)})\]", text, re.MULTILINE)
