"""For any model, from Python: ``epigram.compress`` and what goes with a file."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import nn

from epigram import artifact, atomic
from epigram.data import Augmentation, Preprocess, Splits
from epigram.errors import ConfigError, EpigramError, NonFiniteError
from epigram.evaluate import Metric, evaluate
from epigram.pipeline.job import ProgressChoice
from epigram.pipeline.recipe import Recipe
from epigram.pipeline.run import compress_recipe
from epigram.pipeline.settings import CompressSettings
from epigram.pipeline.verify import dense_bytes
from epigram.records import Floor
from epigram.structure import OnFailure
from epigram.structure.copying import copied
from epigram.train import LossFn


@dataclass(frozen=True, eq=False)
class Compressed:
    """What ``compress`` gives back.

    Attributes:
        model: the network decoded from the file: plain, smaller, of the user's class.
        met: did it meet the floor on the validation split?
        figures: everything ``result.json`` says.
        path: the file; None if none was asked for.
    """

    model: nn.Module
    met: bool
    figures: Mapping[str, Any]
    path: Path | None


def compress(
    model: nn.Module,
    train_data: Any,
    *,
    floor: str | Floor | None = None,
    budget: int | None = None,
    max_drop: float | None = None,
    metric: str | None = None,
    loss_fn: LossFn = F.cross_entropy,
    validation_data: Any = None,
    test_data: Any = None,
    out: str | Path | None = None,
    folder: str | Path | None = None,
    settings: CompressSettings | None = None,
    preprocess: Preprocess | None = None,
    augment: Augmentation | None = None,
    metrics: Mapping[str, Metric] | None = None,
    force: bool = False,
    on_failure: OnFailure | None = None,
    progress: ProgressChoice = "auto",
) -> Compressed:
    """The smallest file of a trained network that still meets the floor.

    Args:
        model: the trained network; it is not changed.
        train_data: ``(inputs, targets)``, a map-style data set, a ``TensorSet``, or ``Splits``.
        floor: the least acceptable value of a metric, ``"accuracy>=0.93"``.
        budget: instead: the best accuracy in so many bytes.
        max_drop: instead: how much worse than the model itself the accuracy may be on validation.
        metric: of a budget or a drop, in the place of accuracy: ``"nll"``, or one of ``metrics`` (more of it is better,
            unless it is told as ``"name<="``).
        loss_fn: (outputs, targets) -> mean NLL per example.
        validation_data: what the model has not been trained on: half of it steers, half judges, by a fixed permutation.
            None = a twelfth each of ``train_data``; of these the model may know more than of any others, and then nothing
            smaller comes up to it.
        test_data: read once, from the decoded file; None = no test figures.
        out: where the file goes; None = only into ``folder``.
        folder: where the run goes, so that it can be resumed and has a report; None = nowhere.
        settings: of the run. The plain network is not trained further unless ``plain.epochs`` says so.
        preprocess: applied to every batch.
        augment: applied to training batches.
        metrics: metrics of your own, ``name -> (logits, targets) -> value``, for ``floor`` and ``metric``.
        force: go on although the model itself misses the floor.
        on_failure: overrides ``settings.posterior.on_failure``; ``"leave"``: of a model that cannot be exported
            no units are removed, its weights are coded all the same, and ``figures["left_whole"]`` says why.
        progress: how to show progress; None = silently.

    Raises:
        FloorError: the model itself misses the floor, and ``force`` is not given.
        DataError: the data do not fit the model.
        UnsupportedModelError: the model cannot be exported, and ``on_failure`` is ``"raise"``.
        EpigramError: see the subclasses.
    """
    if floor is None and budget is None and max_drop is None:
        raise ConfigError("compress: expected floor, budget or max_drop")
    if settings is None:
        settings = CompressSettings()
        settings = replace(settings, plain=replace(settings.plain, epochs=0))
    if on_failure is not None:
        settings = replace(settings, posterior=replace(settings.posterior, on_failure=on_failure))
    splits = _splits(train_data, validation_data, test_data)
    original = copied(model).cpu()
    recipe = Recipe(
        name=f"{type(model).__name__}/{splits.fit.name}",
        description="a model given from Python",
        build=lambda: copy.deepcopy(original),
        load_data=lambda: splits,
        preprocess=preprocess,
        augment=augment,
        settings=settings,
        loss_fn=loss_fn,
        metrics=metrics or {},
    )
    temporary = tempfile.TemporaryDirectory() if folder is None else None
    try:
        where = Path(folder) if folder is not None else Path(str(temporary and temporary.name))
        figures = compress_recipe(
            recipe,
            settings,
            where,
            floor=floor,
            budget=budget,
            max_drop=max_drop,
            metric=metric,
            force=force,
            progress=progress,
        )
        path = where / "model.epg" if folder is not None else None
        if out is not None:
            path = Path(out)
            atomic.write_bytes(path, (where / "model.epg").read_bytes())
        small = artifact.load(where / "model.epg", into=original).eval()
    except EpigramError as error:
        if temporary is not None:
            kept = Path(tempfile.mkdtemp(prefix="epigram-")) / "run"
            shutil.copytree(temporary.name, kept)
            if isinstance(error, NonFiniteError) and error.bundle is not None:
                error.bundle = kept / error.bundle.name
            error.add_note(
                f"what the run left is kept in {kept}; pass folder= to be able to go on with it"
            )
        raise
    finally:
        if temporary is not None:
            temporary.cleanup()
    return Compressed(small, bool(figures["floor"]["met"]), figures, path)


def _splits(train_data: Any, validation_data: Any, test_data: Any) -> Splits:
    if not isinstance(train_data, Splits):
        return Splits.of(train_data, validation=validation_data, test=test_data)
    if validation_data is not None or test_data is not None:
        raise ConfigError(
            "compress: got Splits with validation_data or test_data; expected them within the Splits"
        )
    return train_data


def evaluate_file(path: str | Path, recipe: Recipe) -> dict[str, Any]:
    """Decode a file and evaluate the network in it on the recipe's full test set.

    Raises:
        FormatError: the file is damaged or was made from another network.
        DataError: there is no test set.
    """
    path = Path(path)
    original = recipe.build()
    model = artifact.load(path, into=original).eval()
    test = recipe.load_data().test
    if test is None:
        raise ConfigError(f"evaluate: recipe {recipe.name} has no test set")
    figures = evaluate(model, test, preprocess=recipe.preprocess)
    size, dense = path.stat().st_size, dense_bytes(original)
    return {
        "recipe": recipe.name,
        "file_bytes": size,
        "dense_bytes": dense,
        "ratio": round(dense / size, 3),
        "test_error_percent": figures.error_percent,
        "test_nll": figures.nll,
        "test_calibration_error": figures.calibration_error,
        "test_examples": figures.n,
    }
