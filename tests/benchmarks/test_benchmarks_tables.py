"""The figures in README and docs are those of the committed results."""

from __future__ import annotations

import pytest
import tables


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_the_page_says_what_the_results_say(page) -> None:
    text = page.read_text("utf-8")
    assert tables.BLOCK.search(text)
    assert tables.with_tables(text, tables.ROOT / "benchmarks" / "results") == text


def test_the_pictures_are_those_of_the_results() -> None:
    for picture in (tables.ROOT / "benchmarks" / "results").glob("*.png"):
        assert (tables.PICTURES / picture.name).read_bytes() == picture.read_bytes()
