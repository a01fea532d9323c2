"""``--dry-run``: what a run would do, and about how long it takes; nothing is written."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from epigram.cli import output
from epigram.cli.asked import Asked
from epigram.goal import Goal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from epigram.data import Splits

_MEASURED_STEPS = 10
_BAYESIAN_STEP = 2.3  # in plain steps: two products a layer, noise, and the KL


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of the run that trains: how often, and for how long (estimated)."""

    name: str
    epochs: int
    steps: int
    seconds: float


def show(
    call: Asked,
    *,
    goal: Goal | None = None,
    stages: Collection[str] | None = None,
    skip: Collection[str] = (),
) -> int:
    """Print the plan of a run; only the training ``stages`` (default: all) but those in ``skip``."""
    if goal is not None:
        from epigram.pipeline import check_recipe

        check_recipe(call.recipe, goal.floor)
    splits = call.recipe.load_data()
    net = call.recipe.build()
    step_seconds = measure_step(net, splits, call)
    found = [
        stage
        for stage in training_stages(call.settings, len(splits.fit), step_seconds)
        if (stages is None or stage.name in stages) and stage.name not in skip
    ]
    document = {
        "recipe": call.recipe.name,
        "out": str(call.folder),
        "floor": None if goal is None else str(goal),
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "splits": {name: part["examples"] for name, part in splits.describe().items()},
        "stages": [dataclasses.asdict(stage) for stage in found],
        "seconds": round(sum(stage.seconds for stage in found), 1),
    }
    if call.options.json:
        output.print_json(document)
    else:
        _print(document, found)
    return 0


def _print(document: dict[str, Any], stages: list[Stage]) -> None:
    print(f"would run {document['recipe']} into {document['out']}/ (nothing is written now)")
    sizes = ", ".join(f"{name} {output.grouped(n)}" for name, n in document["splits"].items())
    print(f"network: {output.grouped(document['parameters'])} parameters; examples: {sizes}")
    if document["floor"]:
        print(f"asked for: {document['floor']}, on validation")
    output.print_table(
        [(stage.name, stage.epochs, stage.steps, duration(stage.seconds)) for stage in stages],
        header=("stage", "epochs", "steps", "about"),
    )
    print(
        f"about {duration(document['seconds'])} in all, from {_MEASURED_STEPS} steps measured here"
    )


def training_stages(settings: object, examples: int, step_seconds: float) -> list[Stage]:
    """Every section of the settings that trains: those with epochs and a batch size.

    Args:
        settings: a settings dataclass with nested sections.
        examples: N, the number of training examples.
        step_seconds: of one step of the plain network at its own batch size.
    """
    assert dataclasses.is_dataclass(settings) and not isinstance(settings, type)
    stages = []
    for field in dataclasses.fields(settings):
        section = getattr(settings, field.name)
        trains = getattr(section, "train", section)
        epochs, batch = getattr(trains, "epochs", None), getattr(trains, "batch_size", None)
        if isinstance(epochs, int) and isinstance(batch, int):
            steps = epochs * math.ceil(examples / batch)
            each = step_seconds * (_BAYESIAN_STEP if field.name == "structure" else 1.0)
            stages.append(Stage(field.name, epochs, steps, round(steps * each, 1)))
    return stages


def measure_step(net: nn.Module, splits: Splits, call: Asked) -> float:
    """Seconds of a plain training step: the median of a few, after one to warm up."""
    import torch

    from epigram.data import check_fits

    check_fits(net, splits.fit, preprocess=call.recipe.preprocess)
    batch = getattr(getattr(call.settings, "plain", None), "batch_size", 128)
    x: Tensor = splits.fit.inputs[:batch]
    y: Tensor = splits.fit.targets[:batch]
    if call.recipe.preprocess is not None:
        x = call.recipe.preprocess(x)
    optimizer = torch.optim.Adam(net.parameters())
    seconds = []
    for _ in range(_MEASURED_STEPS + 1):
        begin = time.perf_counter()
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seconds.append(time.perf_counter() - begin)
    return sorted(seconds[1:])[_MEASURED_STEPS // 2]


def duration(seconds: float) -> str:
    """A time as a person says it.

    Example:
        >>> duration(7), duration(200), duration(8000)
        ('7 s', '3 min 20 s', '2 h 13 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
