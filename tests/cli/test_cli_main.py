"""Every way to go wrong ends in one line on stderr and the documented exit code."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from epigram import cli
from epigram.errors import (
    ConfigError,
    DataError,
    FloorError,
    FormatError,
    InterruptedRunError,
    NonFiniteError,
    RunFolderError,
    StorageError,
    UnsupportedModelError,
)


def one_line(captured: pytest.CaptureFixture[str]) -> str:
    error = captured.readouterr().err
    assert error.startswith("epigram: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("wrong"), 2),
        (DataError("wrong"), 2),
        (FormatError("wrong"), 2),
        (UnsupportedModelError("wrong"), 2),
        (FloorError("wrong"), 2),
        (RunFolderError("wrong"), 2),
        (NonFiniteError("wrong", bundle=Path("runs/a/failure-0001")), 4),
        (StorageError("wrong"), 5),
        (OSError(errno.ENOSPC, "No space left on device", "x.bin"), 5),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x.bin"), 2),
        (InterruptedRunError("wrong"), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_is_one_line_and_a_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str], pipeline: object
) -> None:
    pipeline.error = error  # type: ignore[attr-defined]
    assert cli.main(["compress", "tiny/noise"]) == code
    one_line(capsys)


def test_a_failed_training_names_the_replay_bundle(
    capsys: pytest.CaptureFixture[str], pipeline: object
) -> None:
    pipeline.error = NonFiniteError("loss is nan", bundle=Path("b/failure-0001"))  # type: ignore[attr-defined]
    assert cli.main(["train", "tiny/noise"]) == 4
    assert "epigram replay b/failure-0001" in one_line(capsys)


def test_an_unforeseen_error_keeps_its_traceback(pipeline: object) -> None:
    pipeline.error = ZeroDivisionError()  # type: ignore[attr-defined]
    with pytest.raises(ZeroDivisionError):
        cli.main(["train", "tiny/noise"])


def test_debugging_lets_our_errors_through(
    monkeypatch: pytest.MonkeyPatch, pipeline: object
) -> None:
    pipeline.error = DataError("wrong")  # type: ignore[attr-defined]
    monkeypatch.setenv("EPIGRAM_DEBUG", "1")
    with pytest.raises(DataError):
        cli.main(["train", "tiny/noise"])


def test_a_message_of_many_lines_is_still_one_line(
    capsys: pytest.CaptureFixture[str], pipeline: object
) -> None:
    pipeline.error = DataError("one\n  two\nthree")  # type: ignore[attr-defined]
    cli.main(["train", "tiny/noise"])
    assert one_line(capsys) == "epigram: one two three\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["compres"], "unknown command 'compres'; did you mean 'compress'?"),
        (["zzz"], "the commands are recipes, train"),
        (["recipes", "--jsn"], "unknown flag '--jsn'; did you mean '--json'?"),
        (["recipes", "extra"], "recipes: unrecognized arguments: extra"),
        (["evaluate", __file__], "expected a recipe"),
        (["inspect", "none.epg"], "none.epg: no such file"),
        (["inspect", "."], ".: is a folder; expected a file"),
        (["report", "none"], "none: no such folder"),
        (["replay", "none"], "none: no such folder"),
        (["compare", "."], "compare: got 1 run folder, expected two or more"),
        (["unpack", "none.epg", "--out", "x"], "none.epg: no such file"),
    ],
)
def test_a_wrong_call_is_answered_with_what_was_meant(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str], pipeline: object
) -> None:
    assert cli.main(argv) == 2
    assert message in one_line(capsys)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    overview = capsys.readouterr().out
    assert all(f"  {name} " in overview for name in cli.COMMANDS)
    assert cli.main([]) == 2


def test_every_command_has_its_module_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    modules = {path.stem for path in Path(cli.__file__).parent.glob("*.py")}
    assert set(cli.COMMANDS) <= modules
    for name in cli.COMMANDS:
        assert cli.main([name, "--help"]) == 0
        assert f"usage: epigram {name} " in capsys.readouterr().out


def test_a_reader_who_has_seen_enough_is_no_error() -> None:
    script = f"{sys.executable} -m epigram --help | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_while_modules_are_imported_is_130_without_traceback() -> None:
    script = (
        "import sys, importlib; from epigram import cli\n"
        "def stop(name): raise KeyboardInterrupt\n"
        "importlib.import_module = stop\n"
        "sys.exit(cli.main(['recipes']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr.count("\n") == 1
