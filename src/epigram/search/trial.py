"""One trial of a recipe: ``compress`` in the shape of the contract, and on splits of its own.

A search looks at its judging split again and again, so its best figure there is too good. Trials therefore
never see the validation split: the control split is halved, one half steers and the other judges, and
validation confirms files in the end. The test set is taken away.

``compress`` squeezes a file until it sits on its floor, where half of all files would fail on other images.
A trial's own floor is therefore stricter (``margins.aimed``).
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, final

import torch

from epigram import artifact, atomic, config
from epigram.data import Splits
from epigram.errors import ConfigError, NonFiniteError
from epigram.evaluate import evaluate
from epigram.pipeline import CompressSettings, Recipe, compress_recipe
from epigram.pipeline.identity import describe_network, describe_recipe
from epigram.recipes import with_widths
from epigram.records import Floor
from epigram.runner import Fence
from epigram.search import folder

_COMPRESS: Final = "compress"
_STAGES: Final = ("plain", "structure", "finetune")


def read_trial(where: Path) -> dict[str, Any]:
    """What ``config.json`` asks for.

    Raises:
        ConfigError: the folder is not a trial's.
    """
    try:
        asked = json.loads((where / folder.CONFIG).read_text("utf-8"))
        asked["run_id"], asked["attempt"], asked["settings"], asked["run_folder"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{where}: not a trial's folder: {folder.CONFIG}: {error}") from error
    return dict(asked)


def task_of(recipe: Recipe, **more: Any) -> dict[str, Any]:
    """What makes the trials of a recipe what they are, beside settings, widths and seed."""
    with torch.random.fork_rng(devices=[]):
        # a network's random start is no part of the task: it has the trial's seed
        torch.default_generator.manual_seed(0)
        network = describe_network(recipe.build())
    return {
        "recipe": recipe.name,
        **describe_recipe(recipe),
        "network": network,
        "data": {name: part["sha256"] for name, part in recipe.load_data().describe().items()},
        **more,
    }


def run_trial(where: Path, recipe: Recipe, *, from_folder: Path | None = None) -> dict[str, Any]:
    """Compress as ``config.json`` says; writes ``metrics.jsonl`` and ``result.json``.

    A later attempt of the same run goes on from the checkpoints of the one before. A NaN in training is a
    result: it is written as one. Whatever is written is written inside the fence that the environment
    names, if it names one.

    Args:
        where: the attempt's folder.
        recipe: network and data, as the study was begun with.
        from_folder: take the plain network from this run of ``epigram train``.

    Raises:
        FencedError: a later attempt has begun; nothing of its work was written over.
        EpigramError: see ``compress_recipe``.
    """
    fence = Fence.from_environment()
    with contextlib.nullcontext() if fence is None else atomic.guarded_by(fence.held):
        return _run(where, recipe, from_folder)


def _run(where: Path, recipe: Recipe, from_folder: Path | None) -> dict[str, Any]:
    asked = read_trial(where)
    recipe = with_widths(recipe, asked["widths"])
    settings = config.with_overrides(
        config.with_overrides(recipe.settings, asked["settings"]), asked["bookkeeping"]
    )
    floor = Floor.parse(asked["task"].get("aim") or asked["floor"])
    run = Path(asked["run_folder"])
    searched = replace(recipe, load_data=functools.partial(parted, recipe.load_data, "search"))
    told = {"run_id": asked["run_id"], "attempt": asked["attempt"]}
    progress = CurveWriter(where / folder.METRICS, floor, settings, taken=from_folder is not None)
    try:
        result = compress_recipe(
            searched,
            settings,
            run / _COMPRESS,
            floor=floor,
            from_folder=from_folder,
            force=True,
            progress=progress,
        )
    except NonFiniteError as error:
        told |= {floor.metric: None, asked["size_key"]: None, "note": str(error)}
        atomic.write_json(where / folder.RESULT, told)
        return told
    told |= {
        floor.metric: result["floor"]["validation_value"],
        asked["size_key"]: result["file_bytes"],
        "examples": result["splits"]["validation"]["examples"],
        "dense_bytes": result["dense_bytes"],
        "file": f"runs/{asked['run_id']}/{_COMPRESS}/model.epg",
    }
    if asked["phase"] == "confirm":
        told["confirmation"] = confirmation(recipe, run / _COMPRESS / "model.epg", floor)
    atomic.write_json(where / folder.RESULT, told)
    return told


def confirmation(recipe: Recipe, path: Path, floor: Floor) -> dict[str, Any]:
    """What the network decoded from a file is worth on the split that no trial has seen."""
    part = parted(recipe.load_data, "confirm").validation
    model = artifact.load(path, into=recipe.build()).eval()
    figures = evaluate(model, part, preprocess=recipe.preprocess, metrics=recipe.metrics or None)
    return {floor.metric: figures.metric(floor.metric), "examples": len(part)}


def parted(load_data: Callable[[], Splits], use: Literal["search", "confirm"]) -> Splits:
    """The splits as trials see them, or with the split that confirms; without the test set in any case.

    Halves are every second example: the split is in random order already.

    Raises:
        ConfigError: the control split cannot be halved.
    """
    whole = load_data()
    if use == "confirm":
        return Splits(whole.fit, whole.control, whole.validation, None)
    control = whole.control
    if len(control) < 2:
        raise ConfigError(
            f"search: the control split {control.name} has {len(control)} example; expected at least "
            "two, one to steer trials and one to judge them"
        )
    steers = control.subset(slice(0, None, 2), name=f"{control.name}/steers")
    judges = control.subset(slice(1, None, 2), name=f"{control.name}/judges")
    return Splits(whole.fit, steers, judges, None)


@final
class CurveWriter:
    """Takes the place of a progress line: every epoch becomes a line of ``metrics.jsonl``.

    Steps are epochs, counted over all stages. The plain network's epochs and those in which the KL is
    being phased in are marked as warm-up: what they reach says little about the file.
    """

    def __init__(
        self, path: Path, floor: Floor, settings: CompressSettings, *, taken: bool
    ) -> None:
        self.path = path
        self.floor = floor
        self._warmup = settings.structure.kl_warmup_epochs
        epochs = {name: getattr(settings, name).epochs for name in _STAGES}
        if taken:
            epochs["plain"] = 0
        self._first = {
            name: sum(epochs[before] for before in _STAGES[:place])
            for place, name in enumerate(_STAGES)
        }
        self.steps = sum(epochs.values())

    def begin(self, *, stage: str, epochs: int, steps_per_epoch: int, step: int) -> None:
        """Nothing is shown when a stage begins."""

    def due(self) -> bool:
        """Within an epoch there is nothing to say."""
        return False

    def update(self, *, step: int, train: Mapping[str, float]) -> None:
        """Nothing is shown within an epoch."""

    def epoch(self, record: Mapping[str, Any]) -> None:
        """One more line, if the control split was looked at."""
        stage, epoch = str(record["stage"]), int(record["epoch"])
        line: dict[str, Any] = {
            "step": self._first.get(stage, 0) + epoch,
            "steps": self.steps,
            "stage": stage,
            "warmup": stage == "plain" or (stage == "structure" and epoch <= self._warmup),
        }
        metric = (record.get("control") or {}).get(self.floor.metric)
        if metric is not None:
            line[self.floor.metric] = metric
        if record.get("predicted_bytes") is not None:
            line["size_bytes"] = record["predicted_bytes"]
        with atomic.permitted(), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def end(self) -> None:
        """Nothing was shown."""
