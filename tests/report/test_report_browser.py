"""The page in a real browser, offline: nothing missing, nothing complains, nothing scrolls sideways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium_pipe import Chromium, find_chromium

from epigram import report

SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
READY = "Promise.all([...document.images].map(i => i.decode().catch(() => 0))).then(() => 1)"
MISSING = "[...document.images].filter(i => !i.naturalWidth).map(i => i.alt)"
OVER_THE_EDGE = """[...document.querySelectorAll('main *')].filter(
  e => !e.closest('.box') && e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML.slice(0, 80))"""

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium(find_chromium() or "") as found:
        yield found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["mlp", "convnet", "plain"])
def test_page_is_whole_and_fits(
    browser: Chromium, pages: dict[str, Path], name: str, width: int, dark: bool
) -> None:
    browser.open(pages[name], width=width, dark=dark)
    browser.ask(READY)
    browser.ask("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.ask("innerWidth") == width
    assert browser.ask("document.images.length") >= (2 if name == "plain" else 8)
    assert browser.ask(MISSING) == []
    assert browser.ask(SIDEWAYS) <= 0
    assert browser.ask(OVER_THE_EDGE) == []
    assert browser.complaints == []
    assert {url.split(":")[0] for url in browser.requests} <= {"file", "data"}
    assert sum(url.startswith("file:") for url in browser.requests) == 1


def test_comparison_is_whole_and_fits(
    browser: Chromium, runs: dict[str, Path], tmp_path: Path
) -> None:
    page = report.compare(list(runs.values()), tmp_path).html
    for width in (1280, 390):
        browser.open(page, width=width)
        browser.ask(READY)
        assert browser.ask(MISSING) == []
        assert browser.ask(SIDEWAYS) <= 0
        assert browser.complaints == []


def test_reader_who_wants_no_motion_gets_stills(browser: Chromium, pages: dict[str, Path]) -> None:
    count = "[...document.images].filter(i => i.currentSrc.startsWith('data:image/gif')).length"
    browser.open(pages["mlp"], width=390)
    browser.ask(READY)
    assert browser.ask(count) == 2
    browser.open(pages["mlp"], width=390, still=True)
    browser.ask(READY)
    assert browser.ask(count) == 0


def test_driver_sees_what_is_wrong(browser: Chromium, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<img src='gone.png' alt='gone'><div style='width:2000px'>x</div><script>undefined.x</script>"
    )
    browser.open(page, width=390)
    assert browser.ask(MISSING) == ["gone"]
    assert browser.complaints != []
    assert browser.ask("document.documentElement.scrollWidth") >= 2000
