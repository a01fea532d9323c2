"""Making modules agree with the tensors they hold: the attributes that repeat a tensor's shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from epigram.errors import ConfigError
from epigram.records import NARROW
from epigram.structure.attention import fit_attention_
from epigram.structure.narrow import NarrowForward, can_be_narrow, narrow_
from epigram.structure.normalise import fit_normalisation_
from epigram.structure.numbers import has_number, numbers_of, set_number_
from epigram.structure.trace import first_names, named_tensors

if TYPE_CHECKING:
    from torch import Tensor

_FOLLOWED = "followed_numbers"
"""Where a module keeps the names of its numbers that have followed units: they go where it goes."""


def resize_to_shapes_(
    model: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    attributes: Mapping[str, int] | None = None,
) -> None:
    """Give a model's tensors these shapes, filled with zeros where the shape changes, in place.

    Used before a smaller network's values are loaded into the original class.

    Args:
        model: A fresh instance of the original class.
        shapes: Tensor name (as in ``state_dict``) -> shape; absent tensors stay as they are.
        attributes: Numbers that modules keep beside their tensors, as in a plan's ``attributes``.

    Raises:
        ConfigError: an unknown tensor, a shape that is larger than the original or has another
            number of axes, or shapes that contradict each other within a module.
    """
    tensors, first = named_tensors(model), first_names(model)
    wanted: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        if name not in tensors:
            raise ConfigError(f"resize: the model has no tensor {name!r}; it has {sorted(tensors)}")
        have, want = tuple(tensors[name].shape), tuple(int(size) for size in shape)
        if len(have) != len(want) or any(w > h or w < 0 for w, h in zip(want, have, strict=True)):
            raise ConfigError(
                f"resize {name!r}: got shape {want}, expected at most the original's {have}"
            )
        if wanted.setdefault(first[name], want) != want:
            raise ConfigError(
                f"resize {name!r}: got shape {want}, but the tied {first[name]!r} "
                f"has {wanted[first[name]]}"
            )
    changed = []
    for name, want in wanted.items():
        tensor = tensors[name]
        if tuple(tensor.shape) != want:
            tensor.data = tensor.data.new_zeros(want)
            tensor.grad = None
            changed.append(tensor)
    fit_modules_(model, changed)
    set_attributes_(model, attributes or {})


def set_attributes_(model: nn.Module, attributes: Mapping[str, int]) -> None:
    """Give modules these whole numbers (``"encoder.0.attention.num_heads": 3``), in place.

    ``"encoder.0.sizes[1]"`` is an entry of a tuple or a list; ``"encoder.0.num_heads (narrow)"`` makes the
    module narrow, too (:mod:`epigram.structure.narrow`).

    Raises:
        ConfigError: a module or its attribute is not there.
    """
    holders = _holders(model, attributes)
    for path, value in attributes.items():
        module, name = holders[path]
        if path.endswith(NARROW):
            narrow_(module, name)
        set_number_(module, name, int(value))
        _remember_(module, name)


def check_numbers(model: nn.Module, attributes: Mapping[str, int]) -> None:
    """Refuse numbers that a removal of units from this dense network could not have left.

    Raises:
        ConfigError: a module or its attribute is not there, or would become larger than it is.
    """
    for path, (module, name) in _holders(model, attributes).items():
        value, most = attributes[path], numbers_of(module)[name]
        if not 0 <= value <= most:
            raise ConfigError(
                f"attribute {path!r}: got {value}, expected at most the original's {most}"
            )


def _holders(model: nn.Module, paths: Iterable[str]) -> dict[str, tuple[nn.Module, str]]:
    """Path -> the module a number belongs to, and what it is called there."""
    modules, found = dict(model.named_modules()), {}
    for path in paths:
        where, _, name = path.removesuffix(NARROW).rpartition(".")
        module = modules.get(where)
        can_be = module is not None and (not path.endswith(NARROW) or can_be_narrow(module))
        if module is None or not can_be or not has_number(module, name):
            raise ConfigError(
                f"attribute {path!r}: {type(model).__name__} has no whole number of that name"
            )
        found[path] = module, name
    return found


def followed_numbers(model: nn.Module) -> dict[str, int]:
    """Every number that ``set_attributes_`` has set, now or before, as it takes them.

    Example:
        >>> block = nn.Module()
        >>> block.heads = 4
        >>> set_attributes_(block, {"heads": 3})
        >>> followed_numbers(block)
        {'heads': 3}
    """
    found = {}
    for module_name, module in model.named_modules():
        for name in vars(module).get(_FOLLOWED, ()):
            path = f"{module_name}.{name}" if module_name else name
            narrow = isinstance(module, NarrowForward) and name in module.whole_numbers
            found[path + NARROW * narrow] = numbers_of(module)[name]
    return found


def merged_numbers(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """Two sets of such numbers, the later ones being right; what is narrow stays narrow.

    Example:
        >>> merged_numbers({"heads (narrow)": 3, "width": 8}, {"heads": 2})
        {'heads (narrow)': 2, 'width': 8}
    """
    narrow = {path.removesuffix(NARROW) for path in (*before, *after) if path.endswith(NARROW)}
    values = {path.removesuffix(NARROW): value for path, value in (*before.items(), *after.items())}
    return {path + NARROW * (path in narrow): value for path, value in values.items()}


def _remember_(module: nn.Module, name: str) -> None:
    names = {*vars(module).get(_FOLLOWED, ()), name}
    setattr(module, _FOLLOWED, tuple(sorted(names)))


def fit_modules_(model: nn.Module, changed: list[Tensor]) -> None:
    """Correct the attributes of all modules that own one of the tensors in ``changed``.

    Raises:
        ConfigError: a module's tensors contradict each other.
    """
    identities = {id(tensor) for tensor in changed}
    for name, module in model.named_modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if any(id(tensor) in identities for tensor in own):
            _fit(module, name)


def _fit(module: nn.Module, name: str) -> None:
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.MultiheadAttention):
        fit_attention_(module, name)
    elif isinstance(module, _NormBase):
        _fit_batch_norm(module, name)
    elif not isinstance(weight, torch.Tensor):
        return
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
        _agree(name, module.bias, module.out_features)
    elif isinstance(module, _ConvNd):
        _fit_convolution(module, weight)
        _agree(name, module.bias, module.out_channels)
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = weight.shape
    elif isinstance(module, nn.GroupNorm):
        per_channel = module.num_groups == module.num_channels
        module.num_channels = weight.shape[0]
        module.num_groups = weight.shape[0] if per_channel else module.num_groups
        _agree(name, module.bias, module.num_channels)
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        fit_normalisation_(module, name)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = weight.shape[0]


def _fit_convolution(module: _ConvNd, weight: Tensor) -> None:
    transposed = isinstance(module, _ConvTransposeNd)
    depthwise = module.groups == module.in_channels and module.groups > 1
    if depthwise:
        multiplier = module.out_channels // module.groups
        module.groups = weight.shape[0] if transposed else weight.shape[0] // multiplier
    if transposed:
        module.in_channels, module.out_channels = weight.shape[0], weight.shape[1] * module.groups
    else:
        module.out_channels, module.in_channels = weight.shape[0], weight.shape[1] * module.groups


def _fit_batch_norm(module: _NormBase, name: str) -> None:
    per_channel = [module.weight, module.bias, module.running_mean, module.running_var]
    sizes = {tensor.shape[0] for tensor in per_channel if tensor is not None}
    if len(sizes) > 1:
        raise ConfigError(f"{name}: its tensors have {sorted(sizes)} channels, expected one number")
    module.num_features = sizes.pop()


def _agree(name: str, bias: Tensor | None, size: int) -> None:
    if bias is not None and bias.shape[0] != size:
        raise ConfigError(f"{name}: the bias has {bias.shape[0]} entries, expected {size}")
