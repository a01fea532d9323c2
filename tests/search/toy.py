"""A study of milliseconds: seven settings, an error and a size that follow from them, and their curves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from epigram.runner import FakeExecutor, FakeTrial, Job
from epigram.search import Command, Driver, Real, Space, Study, StudySettings, Whole

Behaviour = Callable[[Job], FakeTrial]
FLOOR = "accuracy>=0.92"
STEPS = 20
EXAMPLES = 5000
SPACE = Space(
    {
        "lr": Real(1e-4, 1e-1, log=True),
        "kl": Real(0.01, 10.0, log=True),
        "width": Whole(8, 256, log=True),
        "share": Real(0.0, 1.0),
    }
)
BASE = {"lr": 3e-3, "kl": 0.05, "width": 128, "share": 0.5, "epochs": STEPS, "seed": 0}


def truth(values: Mapping[str, Any]) -> tuple[float, float]:
    """Error and size without noise."""
    lr = math.log10(float(values["lr"]) / 3e-3)
    kl, width = math.log10(float(values["kl"])), math.log2(float(values["width"]) / 64)
    error = 0.045 + 0.02 * lr**2 + 0.012 * max(0.0, kl + 1.0) ** 2
    error += 0.015 * max(0.0, -width) ** 1.5 + 0.01 * (float(values["share"]) - 0.6) ** 2
    size = 4000.0 * float(values["width"]) / 64 * 10 ** (-0.45 * kl)
    return min(0.9, error), size


def noisy(values: Mapping[str, Any], seed: int, *, salt: str = "") -> tuple[float, float]:
    """What a run with that seed reaches."""
    error, size = truth(values)
    key = json.dumps([dict(sorted(values.items())), seed, salt])
    generator = np.random.default_rng(list(key.encode()))
    wrong = generator.binomial(EXAMPLES, min(0.99, error * math.exp(0.02 * generator.normal())))
    return wrong / EXAMPLES, size * math.exp(0.02 * generator.normal())


def curve(values: Mapping[str, Any], seed: int, steps: int = STEPS) -> list[dict[str, Any]]:
    """Error and size after each step; the KL warm-up lets the error rise again in the middle."""
    final, size = noisy(values, seed)
    generator = np.random.default_rng(list(json.dumps([dict(values), seed, "curve"]).encode()))
    speed = 2.0 + 4.0 * float(values["share"])
    lines = []
    for step in range(1, steps + 1):
        t = step / steps
        bump = 0.04 * math.exp(-(((t - 0.35) / 0.15) ** 2))
        error = final + (0.5 - final) * math.exp(-speed * 3 * t) + bump
        error *= math.exp(0.03 * (1 - t) * generator.normal())
        left = size * (1 + 6 * (1 - t) ** 2) * math.exp(0.1 * (1 - t) * generator.normal())
        lines.append(
            {
                "step": step,
                "steps": steps,
                "accuracy": 1 - min(0.95, error),
                "size_bytes": left,
                "warmup": t <= 0.3,
            }
        )
    return lines


def result(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the script of a trial writes in the end."""
    error, size = noisy(config["values"], config["seed"])
    found = {
        "run_id": config["run_id"],
        "attempt": config["attempt"],
        "accuracy": 1 - error,
        "size_bytes": size,
        "examples": EXAMPLES,
        "dense_bytes": 100_000,
    }
    if config["phase"] == "confirm":
        other, _ = noisy(config["values"], config["seed"], salt="confirmation")
        found["confirmation"] = {"accuracy": 1 - other, "examples": EXAMPLES}
    return found


def read_config(job: Job) -> dict[str, Any]:
    return json.loads((job.folder / "config.json").read_text())


def append(path: Path, line: Mapping[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def trial(job: Job, *, with_curve: bool = True, seconds: float = 60.0) -> FakeTrial:
    """A trial that behaves."""
    config = read_config(job)
    lines = curve(config["values"], config["seed"]) if with_curve else []

    def write(line: Mapping[str, Any]) -> Callable[[], None]:
        return lambda: append(job.folder / "metrics.jsonl", line)

    def end() -> None:
        (job.folder / "result.json").write_text(json.dumps(result(config)))

    each = seconds / (STEPS + 1)
    steps = [((k + 1) * each, write(line)) for k, line in enumerate(lines)]
    return FakeTrial(seconds=seconds, steps=[*steps, (seconds, end)])


def only_for(number: int, odd: Behaviour) -> Behaviour:
    """Trial ``number`` behaves oddly, the others as they should."""
    order: list[str] = []

    def behave(job: Job) -> FakeTrial:
        if job.run_id not in order:
            order.append(job.run_id)
        return odd(job) if order.index(job.run_id) == number else trial(job)

    return behave


def open_study(folder: Path, **more: Any) -> Study:
    settings = {"sampler": "random", "confirm": 0, "forecasts": False, "margin": 1.0}
    changed = {
        key: more.pop(key) for key in list(more) if key in StudySettings.__dataclass_fields__
    }
    return Study(
        folder,
        more.pop("space", SPACE),
        floor=more.pop("floor", FLOOR),
        base=more.pop("base", BASE),
        settings=StudySettings(**(settings | changed)),
        **more,
    )


def drive(
    study: Study,
    trials: int,
    *,
    behaviour: Behaviour = trial,
    slots: int = 2,
    **more: Any,
) -> FakeExecutor:
    """Run a study on pretended slots; returns the executor."""
    executor = FakeExecutor(behaviour, slots=slots)
    Driver(
        study,
        executor,
        Command(("train", "{folder}")),
        trials=trials,
        clock=lambda: executor.now,
        **more,
    ).run()
    return executor


def outcomes(study: Study) -> list[str]:
    """How each trial of the search came out, or ``open``."""
    return [t.outcome.kind if t.outcome else "open" for t in study.history.search()]
