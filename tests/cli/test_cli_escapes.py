"""What goes to a terminal holds no commands for it."""

from __future__ import annotations

import json

import pytest

from epigram import cli
from epigram.cli import output


def test_an_error_that_quotes_an_argument_escapes_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", "no\x1b[31msuch\x9bfile.epg"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(r"epigram: no\x1b[31msuch\x9bfile.epg: no such file")
    assert shown.count("\n") == 1 and shown.strip().isprintable()


def test_json_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"name": "conv\x9b1\u202egnp"}
    output.print_json(document)
    shown = capsys.readouterr().out
    assert shown.isascii() and json.loads(shown) == document
