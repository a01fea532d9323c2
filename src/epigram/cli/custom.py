"""``--model mypkg.nets:build --data mypkg.data:loaders``: a recipe made of a user's own code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from epigram.cli import output
from epigram.errors import ConfigError, DataError, UnsupportedModelError

if TYPE_CHECKING:
    from torch import nn

    from epigram.data import Splits
    from epigram.pipeline import Recipe


def find(reference: str, flag: str) -> Callable[[], Any]:
    """The function that ``package.module:function`` names; the working directory is searched, too.

    Raises:
        ConfigError: the text is not of that form, or there is no such module or function.
    """
    module_name, colon, function = reference.partition(":")
    if not (module_name and colon and function):
        raise ConfigError(f"{flag}: got {reference!r}, expected 'package.module:function'")
    try:
        with _working_directory_first():
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{flag}: {error}; it is looked for from {Path.cwd()} and where packages are installed"
        ) from error
    found = getattr(module, function, None)
    if not callable(found):
        raise ConfigError(f"{flag}: module {module_name} has no function '{function}'")
    result: Callable[[], Any] = found
    return result


@contextmanager
def _working_directory_first() -> Iterator[None]:
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def splits(data: Any) -> Splits:
    """What a user's data function returned, as the four parts of a data set.

    ``Splits`` stay as they are; ``(train, test)`` or ``train`` alone is split, a twelfth each for
    control and validation. A data set is whatever ``TensorSet.of`` takes.

    Raises:
        DataError: it is none of these, or a data set in it is malformed.
    """
    import numpy as np
    from torch import Tensor

    from epigram.data import Splits, TensorSet

    if isinstance(data, Splits):
        return data
    one_set = not isinstance(data, tuple | list) or all(
        isinstance(part, Tensor | np.ndarray) for part in data
    )
    parts = [data] if one_set else list(data)
    names = {1: ("train",), 2: ("train", "test"), 3: ("fit", "control", "validation")}
    names[4] = (*names[3], "test")
    if len(parts) not in names:
        raise DataError(
            f"--data: got {len(parts)} data sets, expected train; train, test; "
            "fit, control, validation; or fit, control, validation, test"
        )
    if len(parts) <= 2:
        return Splits.of(parts[0], test=parts[1] if len(parts) == 2 else None)
    named = zip(parts, names[len(parts)], strict=True)
    return Splits(*(TensorSet.of(part, name=name) for part, name in named))


def load_weights(model: nn.Module, path: Path) -> nn.Module:
    """Fill ``model`` from a safetensors file.

    Raises:
        ConfigError: the file is not safetensors, or does not fit the model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from epigram.structure import load_tensors_

    try:
        load_tensors_(model, load_file(path))
    except SafetensorError as error:
        raise ConfigError(f"--weights {path}: not a safetensors file: {error}") from error
    except RuntimeError as error:
        raise ConfigError(f"--weights {path}: does not fit the model: {error}") from error
    return model


def recipe(model: str, data: str, *, weights: str | None) -> Recipe:
    """A recipe named after the model function, with the default settings.

    With ``weights`` the plain network is not trained any further unless a setting says so.

    Raises:
        ConfigError: a function or the weights cannot be used.
    """
    from torch import nn

    from epigram import config, pipeline

    build_model, load = find(model, "--model"), find(data, "--data")
    path = None if weights is None else output.existing_file(weights)

    def build() -> nn.Module:
        net = build_model()
        if not isinstance(net, nn.Module):
            raise UnsupportedModelError(
                f"--model {model}: returned {type(net).__name__}, expected a torch.nn.Module"
            )
        return net if path is None else load_weights(net, path)

    settings = pipeline.CompressSettings()
    if path is not None:
        settings = config.with_overrides(settings, {"plain.epochs": 0})
    return pipeline.Recipe(
        name=f"{model}/{data}",
        description=f"the model of {model} on the data of {data}",
        build=build,
        load_data=lambda: splits(load()),
        settings=settings,
        sources=tuple(dict.fromkeys(name.partition(":")[0] for name in (model, data))),
    )
