"""What a stage learns, logs and shows."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from epigram.convert import bayesianize
from epigram.errors import ConfigError
from epigram.train import (
    BayesianLearner,
    EpochEnd,
    PlainLearner,
    ProgressLine,
    TrainSettings,
    deadline,
    fit,
    read_metrics,
)

QUIET = {"progress": None, "stage": "plain", "seed": 0}


def _settings(**more: object) -> TrainSettings:
    return TrainSettings(**{"epochs": 2, "batch_size": 20, "tensorboard": False, **more})


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_plain_network_learns(
    tmp_path: Path, make_net, fit_set, control_set, optimizer: str
) -> None:
    settings = _settings(epochs=15, learning_rate=0.05, optimizer=optimizer, grad_clip=1.0)
    result = fit(
        PlainLearner(make_net()),
        fit_set,
        settings,
        folder=tmp_path,
        control_set=control_set,
        **QUIET,
    )
    assert result.last["control"]["accuracy"] > 0.8  # chance is a third
    assert result.last["train"]["nll"] < 0.5 * result.history[0]["train"]["nll"]


def test_the_averages_are_those_of_the_examples(tmp_path: Path, make_net, fit_set) -> None:
    """With a step size of next to nothing, the epoch's averages are the network's figures."""
    net = make_net()
    net[2].p = 0.0
    with torch.no_grad():
        outputs = net(fit_set.inputs)
    settings = _settings(epochs=1, batch_size=64, learning_rate=1e-12)  # 64 does not divide 200
    result = fit(PlainLearner(net), fit_set, settings, folder=tmp_path, **QUIET)
    train = result.last["train"]
    assert train["nll"] == pytest.approx(F.cross_entropy(outputs, fit_set.targets).item(), rel=1e-5)
    expected = (outputs.argmax(1) == fit_set.targets).double().mean().item()
    assert train["accuracy"] == pytest.approx(expected, abs=1e-12)
    assert (result.last["step"], result.steps) == (4, 4)


def test_a_twin_shrinks_while_it_trains_and_comes_back(
    tmp_path: Path, fit_set, control_set, same_tensors
) -> None:
    def run(folder: Path, stop=None):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 10), nn.ReLU())
        net.append(nn.Linear(10, 3))
        twin = bayesianize(net, torch.ones(2, 6), prior="group-jeffreys")

        def on_epoch(end: EpochEnd):
            if end.epoch == 2:
                noise = twin.removability()
                keep = {name: rank < len(rank) - 2 for name, rank in _ranks(noise).items()}
                learner.shrink_(keep, optimizer=end.optimizer)
            return {"predicted_bytes": 100 + end.epoch}

        learner = BayesianLearner(twin, len(fit_set), on_epoch=on_epoch)
        settings = _settings(epochs=4, learning_rate=0.01, kl_warmup_epochs=2.0, grad_clip=5.0)
        result = fit(
            learner,
            fit_set,
            settings,
            folder=folder,
            control_set=control_set,
            stop=stop,
            stage="structure",
            seed=0,
            progress=None,
        )
        return twin, result

    expected, whole = run(tmp_path / "whole")
    assert whole.last["units"]["0"] == 10
    assert whole.last["units"]["2"] == 8
    assert whole.last["effective_parameters"] < whole.history[0]["effective_parameters"]
    assert [len(q) for q in whole.last["removability"].values()] == [5] * len(whole.last["units"])
    assert whole.last["train"]["kl_nats"] > 0
    assert whole.last["predicted_bytes"] == 104
    asked = iter([False] * 33 + [True])
    run(tmp_path / "stopped", lambda: next(asked))
    twin, second = run(tmp_path / "stopped")
    assert second.resumed
    same_tensors(twin, expected)
    x = control_set.inputs
    assert torch.equal(twin.eval()(x), expected.eval()(x))


def test_cutting_the_twin_alone_is_noticed(tmp_path: Path, make_twin, fit_set) -> None:
    twin = make_twin()
    keep = {"first": np.arange(8) > 2}
    learner = BayesianLearner(twin, len(fit_set), on_epoch=lambda end: twin.shrink_(keep) and None)
    with pytest.raises(ConfigError, match="cut both"):
        fit(learner, fit_set, _settings(), folder=tmp_path, **QUIET)


def _ranks(noise: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.argsort(np.argsort(values)) for name, values in noise.items()}


def test_the_callers_own_metric_reaches_the_learner(
    tmp_path: Path, make_net, fit_set, control_set
) -> None:
    seen = []
    fit(
        PlainLearner(make_net(), on_epoch=lambda end: seen.append(end.control["zeros"])),
        fit_set,
        _settings(),
        folder=tmp_path,
        control_set=control_set,
        metrics={"zeros": lambda logits, targets: float((logits.argmax(1) == 0).float().mean())},
        **QUIET,
    )
    assert len(seen) == 2
    assert all(0.0 <= share <= 1.0 for share in seen)


def test_another_n_is_refused(tmp_path: Path, make_twin, fit_set) -> None:
    learner = BayesianLearner(make_twin(), 10)
    with pytest.raises(ConfigError, match="10, which is the number of minibatches of 20"):
        fit(learner, fit_set, _settings(), folder=tmp_path, **QUIET)


def test_a_network_without_kl_is_no_twin(make_net) -> None:
    with pytest.raises(ConfigError, match="without kl_nats"):
        BayesianLearner(make_net(), 10)


def test_bf16_runs_the_network_in_bf16_and_the_loss_in_fp32(
    tmp_path: Path, make_twin, fit_set
) -> None:
    twin = make_twin()
    seen: set[torch.dtype] = set()
    twin.second.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    losses: set[torch.dtype] = set()

    def loss_fn(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        loss = F.cross_entropy(outputs, targets)
        losses.add(loss.dtype)
        return loss

    learner = BayesianLearner(twin, len(fit_set), loss_fn=loss_fn)
    result = fit(learner, fit_set, _settings(amp="bf16"), folder=tmp_path, **QUIET)
    assert seen == {torch.bfloat16}
    assert losses == {torch.float32}
    assert all(p.dtype == torch.float32 for p in twin.parameters())
    assert np.isfinite(result.last["train"]["loss"])


def test_the_clamp_is_a_setting(tmp_path: Path, make_twin, fit_set) -> None:
    for clamp in (True, False):
        twin = make_twin()
        with torch.no_grad():
            twin.weight_logvar.fill_(5.0)  # outside the twin's bounds
        settings = _settings(clamp=clamp, epochs=1)
        learner = BayesianLearner(twin, len(fit_set))
        fit(learner, fit_set, settings, folder=tmp_path / str(clamp), **QUIET)
        assert bool((twin.weight_logvar <= 2.0).all()) is clamp


def test_clipping_bounds_the_step_and_can_be_switched_off(
    tmp_path: Path, make_net, fit_set
) -> None:
    def moved(clip: float | None) -> float:
        net = make_net()
        before = nn.utils.parameters_to_vector(net.parameters()).detach()
        settings = _settings(
            epochs=1,
            batch_size=200,
            optimizer="sgd",
            momentum=0.0,
            learning_rate=1.0,
            schedule="constant",
            grad_clip=clip,
        )
        fit(PlainLearner(net), fit_set, settings, folder=tmp_path / str(clip), **QUIET)
        after = nn.utils.parameters_to_vector(net.parameters()).detach()
        return float((after - before).norm())

    assert moved(0.01) == pytest.approx(0.01, rel=1e-3)
    assert moved(None) > 0.1


def test_a_deadline_ends_in_order(tmp_path: Path, make_net, fit_set) -> None:
    result = fit(
        PlainLearner(make_net()), fit_set, _settings(), folder=tmp_path, stop=deadline(0.0), **QUIET
    )
    assert not result.completed
    assert result.steps == 1
    assert deadline(None) is None
    later = deadline(60.0)
    assert later is not None
    assert not later()


def test_what_was_logged_after_the_last_checkpoint_is_not_doubled(
    tmp_path: Path, make_net, fit_set, control_set
) -> None:
    settings = _settings(epochs=4, tensorboard=True, checkpoint_every_epochs=4)

    class PowerCut(Exception):
        pass

    def run(*, dies_in: int | None) -> None:
        def on_epoch(end: EpochEnd) -> None:
            if end.epoch == dies_in:
                raise PowerCut

        fit(
            PlainLearner(make_net(), on_epoch=on_epoch),
            fit_set,
            settings,
            folder=tmp_path,
            control_set=control_set,
            **QUIET,
        )

    with pytest.raises(PowerCut):
        run(dies_in=3)
    logged = read_metrics(tmp_path / "metrics.jsonl")
    assert [r["epoch"] for r in logged] == [1, 2]
    run(dies_in=None)
    logged = read_metrics(tmp_path / "metrics.jsonl")
    assert [r["epoch"] for r in logged] == [1, 2, 3, 4]
    events = EventAccumulator(str(tmp_path / "tensorboard" / "plain")).Reload()
    losses = events.Scalars("train/loss")
    assert [e.step for e in losses] == [10, 20, 30, 40]
    assert [e.value for e in losses] == pytest.approx([r["train"]["loss"] for r in logged])
    assert "control/accuracy" in events.Tags()["scalars"]


def test_every_line_of_metrics_says_what_the_schema_says(
    tmp_path: Path, make_twin, fit_set, control_set
) -> None:
    fit(
        BayesianLearner(make_twin(), len(fit_set)),
        fit_set,
        _settings(control_every_epochs=2, epochs=3),
        folder=tmp_path,
        control_set=control_set,
        **QUIET,
    )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [("control" in line) for line in lines] == [False, True, True]
    for line in lines:
        assert {"stage", "epoch", "step", "seconds", "step_ms", "learning_rate"} <= line.keys()
        assert {"loss", "nll", "kl_nats", "kl_weight", "accuracy"} <= line["train"].keys()
        assert line["units"] == {"first": 8}
        assert line["train"]["loss"] == pytest.approx(
            line["train"]["nll"] + line["train"]["kl_nats"] / 200, rel=1e-5
        )


def _shown(console: Console, tmp_path: Path, twin, fit_set, control_set) -> None:
    settings = _settings(epochs=2)
    learner = BayesianLearner(twin, len(fit_set), on_epoch=lambda end: {"predicted_bytes": 1234})
    fit(
        learner,
        fit_set,
        settings,
        folder=tmp_path,
        control_set=control_set,
        stage="structure",
        seed=0,
        progress=ProgressLine(console, interval=0.0),
    )


def test_progress_is_one_line_per_epoch_where_there_is_no_terminal(
    tmp_path: Path, make_twin, fit_set, control_set
) -> None:
    out = io.StringIO()
    _shown(Console(file=out, width=300), tmp_path, make_twin(), fit_set, control_set)
    first, second = out.getvalue().splitlines()
    assert first.startswith("structure 1/2")
    assert second.startswith("structure 2/2")
    for word in ("ms/step", "loss", "nll", "kl", "fit", "control", "units 8", "~1,234 bytes"):
        assert word in second


def test_progress_is_rewritten_on_a_terminal(
    tmp_path: Path, make_twin, fit_set, control_set
) -> None:
    out = io.StringIO()
    console = Console(file=out, width=300, force_terminal=True)
    _shown(console, tmp_path, make_twin(), fit_set, control_set)
    assert out.getvalue().count("structure 1/2") > 2  # updated within the epoch
    assert "\x1b[2K" in out.getvalue()  # by erasing the line
    assert out.getvalue().count("\n") <= 2


def test_the_time_left_forgets_what_was_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first epoch of a minute, since a teacher answered in it, and the others of a second."""
    console, now = Console(file=io.StringIO(), width=200), [0.0]
    monkeypatch.setattr("epigram.train.progress.time.monotonic", lambda: now[0])
    line = ProgressLine(console)
    line.begin(stage="bits", epochs=20, steps_per_epoch=10, step=0)
    for epoch, seconds in enumerate([60.0, 1.0, 1.0], start=1):
        now[0] += seconds
        line.epoch({"epoch": epoch, "step": 10 * epoch, "train": {"nll": 1.0}})
    shown = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [text.split("  ")[2] for text in shown] == [
        "1m00s + 19m00s",
        "1m01s + 18s",
        "1m02s + 17s",
    ]
