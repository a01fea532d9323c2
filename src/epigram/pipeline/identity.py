"""What makes a run the run it is, in words that are the same in every process.

A function is described as ``module.qualname#digest``: the digest is of its source and, where it has
them, of the values it closes over and of its default arguments. What it calls is not followed.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import math
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from epigram.errors import ConfigError
from epigram.pipeline.recipe import Recipe
from epigram.pipeline.source import ROUTINES, code_of, short_digest
from epigram.structure import state_tensors

_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")
_MACHINERY = frozenset(vars(nn.Module()))


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe's functions. Its network and data are described by what they are, too: see there.

    Raises:
        ConfigError: something they carry looks different in every process.
    """
    return {
        "build": code_of(recipe.build),
        "load_data": code_of(recipe.load_data),
        "preprocess": describe(recipe.preprocess, "preprocess"),
        "augment": describe(recipe.augment, "augment"),
        "bits_augment": describe(recipe.bits_augment, "bits_augment"),
        "loss_fn": describe(recipe.loss_fn, "loss_fn"),
        "metrics": describe(recipe.metrics, "metrics"),
        "sources": {name: _module_code(name) for name in recipe.sources},
    }


def describe_network(model: nn.Module) -> dict[str, str]:
    """A network: its class, its layers (their classes and plain attributes), its values."""
    codes = {kind: code_of(kind) for kind in {type(module) for module in model.modules()}}
    layers = [
        [name, codes[type(module)], dict(_plain_attributes(module))]
        for name, module in model.named_modules()
    ]
    return {
        "class": codes[type(model)],
        "layers": short_digest(json.dumps(layers, sort_keys=True)),
        "values": fingerprint(model),
    }


def fingerprint(model: nn.Module) -> str:
    """16 hexadecimal digits of a network's names, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in state_tensors(model).items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:16]


def describe(thing: Any, where: str, *, within: tuple[int, ...] = ()) -> Any:
    """Anything a recipe carries as plain data, the same in every process.

    Functions by their source, callable instances and dataclasses by their class and fields, tensors
    by their values, anything else by its class and ``repr``.

    Args:
        thing: what to describe.
        where: names it in messages.
        within: the ids of what it is a part of, so that a circle ends.

    Raises:
        ConfigError: a ``repr`` holds a memory address.
    """
    if thing is None or (isinstance(thing, bool | int | str) and not isinstance(thing, Enum)):
        return thing
    if isinstance(thing, float):
        return float(thing) if math.isfinite(thing) else str(float(thing))
    if id(thing) in within:
        return "(itself)"

    def part(value: Any, name: object) -> Any:
        return describe(value, f"{where}.{name}", within=(*within, id(thing)))

    if isinstance(thing, Tensor | np.ndarray):
        tensor = torch.as_tensor(thing)
        return f"{tensor.dtype} {list(tensor.shape)} {short_digest(_bytes(tensor))}"
    if isinstance(thing, Mapping | list | tuple | set | frozenset):
        return _described_container(thing, where, part)
    if isinstance(thing, types.ModuleType):
        return thing.__name__
    if callable(thing) or is_dataclass(thing):
        return _described_callable(thing, where, part)
    return {"class": code_of(thing), "repr": _repr(thing, where)}


_Part = Callable[[Any, object], Any]


def _described_container(thing: Any, where: str, part: _Part) -> Any:
    if isinstance(thing, Mapping):
        names = {key: key if isinstance(key, str) else _repr(key, where) for key in thing}
        return {names[key]: part(value, names[key]) for key, value in thing.items()}
    described = [part(value, at) for at, value in enumerate(thing)]
    return described if isinstance(thing, list | tuple) else sorted(described, key=json.dumps)


def _described_callable(thing: Any, where: str, part: _Part) -> Any:
    if isinstance(thing, types.FunctionType):
        return _described_function(thing, part)
    if isinstance(thing, functools.partial):
        keywords = {"keywords": part(thing.keywords, "keywords")}
        return {"partial": part(thing.func, "func"), "args": part(thing.args, "args"), **keywords}
    owner = getattr(thing, "__self__", None)
    bound = isinstance(thing, types.MethodType | types.BuiltinFunctionType)
    if bound and owner is not None and not isinstance(owner, types.ModuleType):
        return {"method": code_of(thing), "self": _described_instance(owner, where, part)}
    return _described_instance(thing, where, part)


def _described_instance(thing: Any, where: str, part: _Part) -> Any:
    if isinstance(thing, (type, *ROUTINES)):
        return code_of(thing)
    own = _fields(thing)
    if own is None:
        return {"class": code_of(thing), "repr": _repr(thing, where)}
    return {"class": code_of(thing)} | {name: part(value, name) for name, value in own.items()}


def _described_function(function: types.FunctionType, part: _Part) -> str:
    carried = {name: part(value, name) for name, value in _carried(function)}
    return code_of(function, carried=json.dumps(carried, sort_keys=True) if carried else "")


def _carried(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Default arguments, and what the function closes over."""
    if function.__defaults__:
        yield "defaults", function.__defaults__
    yield from (function.__kwdefaults__ or {}).items()
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"closure.{name}", cell.cell_contents
        except ValueError:  # not yet assigned
            yield f"closure.{name}", "(empty)"


def _fields(thing: Any) -> dict[str, Any] | None:
    """An instance's own values; None where it keeps them out of sight (it is written in C)."""
    if is_dataclass(thing):
        return {field.name: getattr(thing, field.name, None) for field in fields(thing)}
    slots = {
        name: getattr(thing, name, None)
        for kind in type(thing).__mro__
        for name, member in vars(kind).items()
        if "__slots__" in vars(kind) and isinstance(member, types.MemberDescriptorType)
    }
    if not slots and not hasattr(thing, "__dict__"):
        return None
    found = slots | getattr(thing, "__dict__", {})
    # an nn.Module has a dozen empty tables of hooks
    return {k: v for k, v in found.items() if not (isinstance(v, dict | set) and not v)}


def _plain_attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """A layer's numbers, words and functions; tensors and layers have names of their own."""
    for name, value in vars(module).items():
        items = value if isinstance(value, tuple | list) else [value]
        if name not in _MACHINERY and isinstance(value, (type, *ROUTINES)):
            yield name, code_of(value)
        elif name not in _MACHINERY and all(
            item is None or isinstance(item, bool | int | float | str) for item in items
        ):
            yield name, value


def _module_code(name: str) -> str:
    """``module#digest`` of an imported module's whole source; the name alone where there is none."""
    try:
        return f"{name}#{short_digest(inspect.getsource(sys.modules[name]))}"
    except (OSError, TypeError):
        return name


def _repr(thing: object, where: str) -> str:
    text = repr(thing)
    if _ADDRESS.search(text):
        raise ConfigError(
            f"{where}: got {text}, whose memory address is another one in every process, so the run "
            "could not be known again. Expected what can be described: a function, numbers, tensors, "
            "a dataclass, or an object whose __repr__ says its settings"
        )
    return text


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
