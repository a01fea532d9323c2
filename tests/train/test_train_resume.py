"""A run that was killed, interrupted or stopped ends as if it had not been."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from epigram.errors import FormatError, InterruptedRunError, RunFolderError, StorageError
from epigram.train import PlainLearner, TrainSettings, fit, read_metrics
from epigram.train.storage import save_state

SCRIPT = Path(__file__).with_name("killed_run.py")
SETTINGS = TrainSettings(
    epochs=3, batch_size=16, tensorboard=False, checkpoint_every_seconds=None, guard_every_steps=5
)


@contextlib.contextmanager
def _nursery() -> Iterator[subprocess.Popen[str]]:
    """A process that starts runs (see ``killed_run.py``)."""
    with subprocess.Popen(
        [sys.executable, str(SCRIPT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        yield process
        process.stdin.close()


def _run(
    nursery: subprocess.Popen[str], folder: Path, *, kill_after: tuple[int, float] | None
) -> int:
    """Start a run in ``folder``, kill it after so many steps and seconds; return its exit code."""
    done = folder.with_suffix(".steps")
    done.write_bytes(b"")
    print(folder, file=nursery.stdin, flush=True)
    process = int(nursery.stdout.readline())
    if kill_after is not None:
        steps, seconds = kill_after
        limit = time.monotonic() + 30.0
        while done.stat().st_size < steps and time.monotonic() < limit:
            time.sleep(0.001)
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)  # not yet waited for, so the number is still its own
    return int(nursery.stdout.readline())


def _without_times(record: dict) -> dict:
    return {key: value for key, value in record.items() if key not in ("seconds", "step_ms")}


def test_sigkill_at_random_moments_changes_nothing(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    moments = random.Random(5)
    with _nursery() as nursery:
        assert _run(nursery, whole, kill_after=None) == 0
        codes = []
        while 0 not in codes:
            moment = (moments.randint(1, 8), moments.uniform(0.0, 0.01))
            codes.append(_run(nursery, killed, kill_after=moment if len(codes) < 5 else None))
            if codes[-1] and (killed / "metrics.jsonl").exists():
                with (killed / "metrics.jsonl").open("ab") as torn:
                    torn.write(b'{"stage": "structure", "epo')
    assert codes == [-signal.SIGKILL] * 5 + [0]
    assert killed.with_suffix(".sha256").read_text() == whole.with_suffix(".sha256").read_text()
    once, again = (
        [_without_times(r) for r in read_metrics(folder / "metrics.jsonl")]
        for folder in (whole, killed)
    )
    assert [r["epoch"] for r in again] == [1, 2, 3, 4]
    assert again == once
    assert once[-1]["units"] == {"first": 5}


def test_stop_in_the_middle_of_an_epoch_and_going_on(
    tmp_path: Path, make_net, fit_set, control_set, same_tensors
) -> None:
    def run(folder: Path, **more):
        net = make_net()
        return net, _trained(folder, net, fit_set, control_set, **more)

    expected, whole = run(tmp_path / "whole")
    asked = iter([False] * 17 + [True] * 1000)
    _, first = run(tmp_path / "stopped", stop=lambda: next(asked))
    assert not first.completed
    assert (first.epochs, first.steps) == (1, 18)
    net, second = run(tmp_path / "stopped")
    assert second.completed
    assert second.resumed
    same_tensors(net, expected)
    assert [_without_times(r) for r in second.history] == [_without_times(r) for r in whole.history]
    again, third = run(tmp_path / "stopped")
    assert third.completed
    assert third.steps == whole.steps
    same_tensors(again, expected)
    assert len(third.history) == 3


def test_global_random_numbers_are_left_as_they_were(tmp_path: Path, make_net, fit_set) -> None:
    net = make_net()
    torch.manual_seed(123)
    expected = torch.rand(3)
    torch.manual_seed(123)
    fit(PlainLearner(net), fit_set, SETTINGS, folder=tmp_path, stage="a", seed=1, progress=None)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_finishes_the_step_and_writes_a_checkpoint(
    tmp_path: Path, make_net, fit_set, same_tensors, name: str
) -> None:
    def run(folder: Path, stop=None):
        net = make_net()
        fit(
            PlainLearner(net),
            fit_set,
            SETTINGS,
            folder=folder,
            stage="plain",
            seed=1,
            progress=None,
            stop=stop,
        )
        return net

    expected = run(tmp_path / "whole")
    steps = iter(range(10_000))

    def interrupt() -> bool:
        if next(steps) == 20:
            signal.raise_signal(signal.Signals[name])
        return False

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(InterruptedRunError, match=name) as caught:
        run(tmp_path / "interrupted", interrupt)
    assert caught.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is before
    same_tensors(run(tmp_path / "interrupted"), expected)


def test_the_second_ctrl_c_is_immediate(tmp_path: Path, make_net, fit_set) -> None:
    def interrupt_twice() -> bool:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second one must not come back")

    with pytest.raises(KeyboardInterrupt):
        fit(
            PlainLearner(make_net()),
            fit_set,
            SETTINGS,
            folder=tmp_path,
            stage="plain",
            seed=1,
            progress=None,
            stop=interrupt_twice,
        )


def test_a_disk_full_in_a_checkpoint_leaves_the_previous_one(
    tmp_path: Path, make_net, fit_set, same_tensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(folder: Path):
        net = make_net()
        fit(
            PlainLearner(net),
            fit_set,
            SETTINGS,
            folder=folder,
            stage="plain",
            seed=1,
            progress=None,
        )
        return net

    expected = run(tmp_path / "whole")
    write = os.fsync
    calls = iter(range(100))

    def full(descriptor: int) -> None:
        if next(calls) >= 6:
            raise OSError(28, "No space left on device")
        write(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        run(tmp_path / "full")
    monkeypatch.undo()
    kept = [path.name for path in (tmp_path / "full" / "checkpoints").iterdir()]
    assert "plain.pt" in kept
    assert set(kept) <= {"plain.pt", "plain.previous.pt"}
    same_tensors(run(tmp_path / "full"), expected)
    lines = read_metrics(tmp_path / "full" / "metrics.jsonl")
    assert [line["epoch"] for line in lines] == [1, 2, 3]


def test_other_settings_do_not_go_on_from_a_checkpoint(tmp_path: Path, make_net, fit_set) -> None:
    def run(settings: TrainSettings) -> None:
        fit(
            PlainLearner(make_net()),
            fit_set,
            settings,
            folder=tmp_path,
            stage="plain",
            seed=1,
            progress=None,
        )

    run(TrainSettings(epochs=1, tensorboard=False))
    with pytest.raises(RunFolderError, match=r"settings\.learning_rate: 0\.001 there, 0\.1 now"):
        run(TrainSettings(epochs=1, learning_rate=0.1, tensorboard=False))
    run(TrainSettings(epochs=1, tensorboard=False, checkpoint_every_epochs=7))


def test_stages_share_a_folder_and_a_metrics_file(tmp_path: Path, make_net, fit_set) -> None:
    for _ in range(2):  # the second time all is loaded
        for stage in ("plain", "finetune"):
            fit(
                PlainLearner(make_net()),
                fit_set,
                TrainSettings(epochs=2, tensorboard=False),
                folder=tmp_path,
                stage=stage,
                seed=1,
                progress=None,
            )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["epoch"]) for line in lines] == [
        ("plain", 1),
        ("plain", 2),
        ("finetune", 1),
        ("finetune", 2),
    ]


def _trained(folder: Path, net, fit_set, control_set, stop=lambda: False):
    """One stage of three epochs; in the end, or stopped."""
    return fit(
        PlainLearner(net),
        fit_set,
        SETTINGS,
        folder=folder,
        stage="plain",
        seed=1,
        control_set=control_set,
        progress=None,
        stop=stop,
    )


def _damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "truncated":
        data = data[: len(data) // 2]
    elif how == "empty":
        data.clear()
    else:  # a weight's bit: torch itself reads such a file without a word
        data[data.index(torch.load(path)["state"]["module"]["0.weight"].numpy().tobytes())] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["truncated", "empty", "flipped"])
def test_a_damaged_checkpoint_is_replaced_by_the_one_before(
    tmp_path: Path, make_net, fit_set, control_set, same_tensors, caplog, how: str
) -> None:
    expected = make_net()
    whole = _trained(tmp_path / "whole", expected, fit_set, control_set)
    asked = iter([False] * 30 + [True])
    _trained(tmp_path / "hurt", make_net(), fit_set, control_set, lambda: next(asked))
    checkpoints = tmp_path / "hurt" / "checkpoints"
    assert sorted(p.name for p in checkpoints.iterdir()) == ["plain.previous.pt", "plain.pt"]
    _damage(checkpoints / "plain.pt", how)
    net = make_net()
    result = _trained(tmp_path / "hurt", net, fit_set, control_set)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "plain.pt: damaged" in line
    assert line.endswith("going on from plain.previous.pt, the checkpoint before it")
    assert result.resumed
    same_tensors(net, expected)
    assert [_without_times(r) for r in result.history] == [_without_times(r) for r in whole.history]
    assert sorted(p.name for p in checkpoints.iterdir()) == ["plain.previous.pt", "plain.pt"]


def test_a_kill_between_the_two_renames_loses_nothing(
    tmp_path: Path, make_net, fit_set, control_set, same_tensors, caplog
) -> None:
    expected = make_net()
    _trained(tmp_path, expected, fit_set, control_set)
    (tmp_path / "checkpoints" / "plain.pt").unlink()
    net = make_net()
    assert _trained(tmp_path, net, fit_set, control_set).resumed
    same_tensors(net, expected)
    assert not caplog.records


def test_two_damaged_checkpoints_are_refused_and_kept_and_run_no_code(
    tmp_path: Path, make_net, fit_set, control_set
) -> None:
    class Hostile:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "hostile code ran",))

    def again() -> None:
        _trained(tmp_path, make_net(), fit_set, control_set)

    again()
    newest, previous = (tmp_path / "checkpoints" / f"plain{m}.pt" for m in ("", ".previous"))
    _damage(newest, "truncated")
    _damage(previous, "truncated")
    before = [newest.read_bytes(), previous.read_bytes()]
    with pytest.raises(FormatError, match=r"plain\.pt: damaged.*plain\.previous\.pt; delete both"):
        again()
    assert [newest.read_bytes(), previous.read_bytes()] == before
    previous.unlink()
    with pytest.raises(FormatError, match=r"plain\.pt: damaged.*delete it"):
        again()
    save_state(newest, {"about": Hostile()})
    with pytest.raises(FormatError, match=r"plain\.pt: damaged"):
        again()
    assert not (tmp_path / "hostile code ran").exists()
