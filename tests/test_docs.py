"""The documentation cites tests, commands and files that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from epigram import cli

ROOT = Path(__file__).resolve().parents[1]
LINEAGE = (ROOT / "docs" / "lineage.md").read_text(encoding="utf-8")
PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("citation", sorted(set(re.findall(r"`(tests/[^`]+)`", LINEAGE))))
def test_a_cited_test_exists(citation: str) -> None:
    path, name = citation.split("::")
    source = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(rf"^ *def {name}\(", source, re.MULTILINE)


def test_every_problem_names_a_test() -> None:
    rows = [line for line in LINEAGE.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| problem |")]
    assert len(rows) > 30
    for row in rows:
        assert "`tests/" in row.split(" | ")[-1], row


def test_the_commands_of_the_cli_page_exist() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    shown = {
        shlex.split(line, comments=True)[1]
        for line in re.findall(r"^epigram .*", page, re.MULTILINE)
    }
    assert set(cli.COMMANDS) <= shown
    assert shown <= set(cli.COMMANDS)


def test_the_exit_codes_of_the_cli_page_are_those_of_the_errors() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (\d+) \|", page, re.MULTILINE) == ["0", "2", "3", "4", "5", "130"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
