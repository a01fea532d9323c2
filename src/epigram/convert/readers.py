"""Where in a twin the tensors of the original live."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from epigram.convert.gathered import GatheredReader
from epigram.layers import VariationalLayer, VariationalMultiheadAttention


@dataclass(frozen=True, eq=False)
class Reader:
    """A variational layer and the names its weight and bias have in the plain network."""

    weight: str
    bias: str
    layer: VariationalLayer
    gathered: GatheredReader | None = None

    @property
    def inputs(self) -> int:
        """How many inputs the plain layer has, in the coordinates of its weight."""
        if self.gathered is not None:
            return self.gathered.inputs
        return self.layer.weight_mean.shape[self.layer.input_axis]


def variational_readers(network: nn.Module) -> Iterator[Reader]:
    """Every variational layer of a twin's network, each once."""
    inside: set[nn.Module] = set()
    for path, module in network.named_modules():
        prefix = f"{path}." if path else ""
        if isinstance(module, GatheredReader):
            inside.add(module.layer)
            yield Reader(f"{prefix}weight", f"{prefix}bias", module.layer, module)
        elif isinstance(module, VariationalMultiheadAttention):
            for name, layer in module.projections().items():
                inside.add(layer)
                weight = f"{prefix}{name}"
                yield Reader(weight, f"{weight.removesuffix('weight')}bias", layer)
        elif isinstance(module, VariationalLayer) and module not in inside:
            yield Reader(f"{prefix}weight", f"{prefix}bias", module)


def holder(network: nn.Module, tensor: str) -> tuple[nn.Module, str]:
    """The module of a twin's network that holds one of the plain network's tensors, and its name there."""
    path, _, leaf = tensor.rpartition(".")
    module = network.get_submodule(path)
    if isinstance(module, VariationalMultiheadAttention):
        return module.tensor_of(leaf)
    return module, leaf


def plain_counterparts(network: nn.Module) -> dict[nn.Module, nn.Module]:
    """Every module of a twin's network that has a plain counterpart -> that, newly made."""
    found: dict[nn.Module, nn.Module] = {}
    inside: set[nn.Module] = set()
    for module in network.modules():
        if isinstance(module, GatheredReader | VariationalLayer | VariationalMultiheadAttention):
            if module not in inside:
                found[module] = module.plain()
            inside.update(module.modules())
    return found


def with_replaced(root: nn.Module, new: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """``root`` with modules replaced in place, wherever they occur (``root`` itself too)."""
    places = [
        (path, module)
        for path, module in root.named_modules(remove_duplicate=False)
        if path and module in new
    ]
    for path, module in places:
        parent, _, leaf = path.rpartition(".")
        setattr(root.get_submodule(parent), leaf, new[module])
    return new.get(root, root)
