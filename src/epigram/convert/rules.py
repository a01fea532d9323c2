"""Which layers of a network become variational, and why the others do not (``docs/twins.md``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList

from epigram.errors import ConfigError, UnsupportedModelError
from epigram.layers import why_attention_stays, why_deterministic

Ignored: TypeAlias = Sequence[str | nn.Module | type[nn.Module] | Callable[[nn.Module], bool]]
Frozen: TypeAlias = Literal["deterministic", "variational"]


@dataclass(frozen=True)
class Choice:
    """What becomes of every part of a network that has parameters.

    Attributes:
        variational: names of the layers that get a posterior, in the network's order.
        deterministic: name of a layer, or of a parameter that ``forward`` uses by itself -> why not.
    """

    variational: tuple[str, ...]
    deterministic: Mapping[str, str]

    def without(self, reasons: Mapping[str, str]) -> Choice:
        """The choice with some more layers left deterministic."""
        left = tuple(name for name in self.variational if name not in reasons)
        return Choice(left, {**self.deterministic, **reasons})

    def checked(self, model: nn.Module) -> Choice:
        """This choice, if anything is left of it.

        Raises:
            UnsupportedModelError: nothing becomes variational; the message says why.
        """
        if self.variational:
            return self
        reasons = [
            f"{name or type(model).__name__}: {why}" for name, why in self.deterministic.items()
        ]
        more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        raise UnsupportedModelError(
            f"got a {type(model).__name__} without a layer to make variational "
            f"({'; '.join(reasons[:3]) or 'it has no parameters'}{more}); expected at least one "
            "linear, convolution, embedding or attention layer that is not ignored, frozen or tied"
        )


def choose(model: nn.Module, ignored: Ignored = (), *, frozen: Frozen = "deterministic") -> Choice:
    """Apply the rules that need no forward pass.

    Raises:
        ConfigError: a name in ``ignored`` fits no module.
        UnsupportedModelError: a layer that would be variational has weights that are on ``meta``, in
            half precision, complex or not finite; a module is lazy and has none yet, compiled or scripted.
    """
    _check_eager(model, ignored)
    _check_names(model, ignored)
    shared = _sharers(model)
    variational: list[str] = []
    deterministic: dict[str, str] = {}
    for name, module in _layers(model):
        reason = (
            _exclusion(model, name, ignored)
            or _own_reason(module)
            or _tie(name, module, shared)
            or _frozen(module, frozen)
        )
        if reason is None:
            _check_tensors(name, module)
            variational.append(name)
        elif reason == "no variational counterpart" and not _is_torch_layer(module):
            prefix = f"{name}." if name else ""
            why = "a parameter that forward uses by itself"
            deterministic |= {
                f"{prefix}{n}": why for n, _ in module.named_parameters(recurse=False)
            }
        else:
            deterministic[name] = reason
    return Choice(tuple(variational), deterministic)


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules with parameters of their own, each once; parts of a layer belong to it.

    Parts are an attention's output projection, and what a parametrised weight is computed from.
    """
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            inside.add(module.out_proj)
        if isinstance(module, ParametrizationList):
            inside.update(module.modules())
        if module not in inside and next(module.parameters(recurse=False), None) is not None:
            yield name, module


def _own_reason(module: nn.Module) -> str | None:
    if isinstance(module, nn.MultiheadAttention):
        return why_attention_stays(module)
    return why_deterministic(module)


def _is_torch_layer(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn")


def _exclusion(model: nn.Module, name: str, ignored: Ignored) -> str | None:
    """Excluded are the layers a rule names, and what is inside the modules it names."""
    parts = name.split(".") if name else []
    line = {"": model}
    for depth in range(len(parts)):
        path = ".".join(parts[: depth + 1])
        line[path] = model.get_submodule(path)
    for rule in ignored:
        if isinstance(rule, str):
            hit = any(fnmatchcase(path, rule) for path in line)
        elif isinstance(rule, type):
            hit = any(isinstance(module, rule) for module in line.values())
        elif isinstance(rule, nn.Module):
            hit = any(module is rule for module in line.values())
        else:
            hit = bool(rule(line[name]))
        if hit:
            return "excluded by the user"
    return None


def _check_eager(model: nn.Module, ignored: Ignored) -> None:
    """Only an ordinary module's layers can be watched and replaced."""
    for name, module in model.named_modules():
        place, dot = name or "the model", f"{name}." if name else ""
        if "_orig_mod" in dict(module.named_children()):
            raise UnsupportedModelError(
                f"{place} is what torch.compile made, whose layers nobody can watch or replace; use "
                f"the ordinary module, model.{dot}_orig_mod, and compile the result"
            )
        if any(is_lazy(parameter) for parameter in module.parameters(recurse=False)):
            raise UnsupportedModelError(
                f"{place} is a {type(module).__name__} that has not seen an input, and has no weights yet; "
                "call the model once on an example first"
            )
        scripted = isinstance(module, torch.jit.ScriptModule)
        if scripted and not (name and _exclusion(model, name, ignored)):
            raise UnsupportedModelError(
                f"{place} is a {type(module).__name__} (torch.jit), expected an ordinary module; use "
                f"the one that it was scripted or traced from (a {module.original_name}), and script "
                "the result"
            )


def _check_names(model: nn.Module, ignored: Ignored) -> None:
    names = [name for name, _ in model.named_modules()]
    for rule in ignored:
        if isinstance(rule, str) and not any(fnmatchcase(name, rule) for name in names):
            raise ConfigError(
                f"ignored_layers: {rule!r} fits no module of {type(model).__name__}; expected a name "
                f"or a glob for one of {', '.join(name for name, _ in _layers(model))}"
            )


def _sharers(model: nn.Module) -> dict[int, list[str]]:
    """Identity of a parameter -> the names of all modules that own it."""
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    return owners


def _tie(name: str, module: nn.Module, shared: Mapping[int, list[str]]) -> str | None:
    """A weight with two owners would need one posterior that a scale must not act on: see the docs."""
    for parameter in module.parameters():
        others = [other for other in shared[id(parameter)] if other != name]
        inside = f"{name}." if name else ""
        others = [other for other in others if not (inside and other.startswith(inside))]
        if len(shared[id(parameter)]) > 1 and others:
            return f"tied: it shares a parameter with {', '.join(others)}"
    return None


def _frozen(module: nn.Module, frozen: Frozen) -> str | None:
    is_frozen = any(not parameter.requires_grad for parameter in module.parameters())
    return "frozen (requires_grad is False)" if is_frozen and frozen == "deterministic" else None


def _check_tensors(name: str, module: nn.Module) -> None:
    for parameter in module.parameters():
        if parameter.is_meta:
            raise UnsupportedModelError(
                f"{name}: its weights are on the meta device, which holds no numbers; expected a "
                "network with its weights loaded: model.to_empty(device='cpu'), then load_state_dict"
            )
        if parameter.is_complex():
            raise UnsupportedModelError(
                f"{name}: its weights are complex numbers ({parameter.dtype}), expected real ones; there "
                f"is no posterior of such a layer, so leave it as it is: ignored_layers=[{name!r}]"
            )
        if parameter.dtype not in (torch.float32, torch.float64):
            raise UnsupportedModelError(
                f"{name}: its weights are {parameter.dtype}, expected 32-bit floats (or 64): a "
                "posterior's small steps and variances are lost in 16 bits; convert the model with "
                ".float() and train with amp='bf16' if speed is wanted"
            )
        unusable = parameter.numel() - int(parameter.isfinite().sum())
        if unusable:
            raise UnsupportedModelError(
                f"{name}: {unusable} of its {parameter.numel()} weights are NaN or infinite, expected "
                "finite numbers; load a checkpoint from before training went wrong"
            )
