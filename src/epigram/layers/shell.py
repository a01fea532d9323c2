"""A plain module without its tensors: what a twin keeps to become that module again."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

_OWN_DICTS = ("_parameters", "_buffers", "_modules")


class Shell:
    """A layer's class, attributes and hooks, its parameters and submodules left out.

    Subclasses of torch's layers, their attributes and their names come back as they were, and no
    constructor runs, so no random number is drawn.

    Args:
        module: a layer; it is not changed.
    """

    def __init__(self, module: nn.Module) -> None:
        self._bare = copy.copy(module)
        for name in _OWN_DICTS:
            self._bare.__dict__[name] = dict.fromkeys(vars(module)[name])

    @property
    def kind(self) -> type[nn.Module]:
        """The plain layer's class."""
        return type(self._bare)

    def filled(
        self,
        parameters: Mapping[str, nn.Parameter | None],
        *,
        attributes: Mapping[str, Any] | None = None,
        modules: Mapping[str, nn.Module] | None = None,
    ) -> nn.Module:
        """A new plain module.

        Args:
            parameters: by name; those that are not named are None.
            attributes: sizes that may have changed.
            modules: submodules by name.
        """
        module = copy.copy(self._bare)
        for name in _OWN_DICTS:
            module.__dict__[name] = dict(vars(self._bare)[name])
        for name, parameter in parameters.items():
            module.register_parameter(name, parameter)
        for name, value in (attributes or {}).items():
            setattr(module, name, value)
        for name, child in (modules or {}).items():
            module.add_module(name, child)
        return module
