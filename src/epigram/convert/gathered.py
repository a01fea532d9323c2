"""A reader that no longer looks at every position of its input."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from epigram.layers import VariationalLayer, VariationalLinear, to_plain


class GatheredLinear(nn.Module):
    """A variational linear layer that reads only the positions ``index`` of its input.

    Dead positions (pixels, positions behind a flatten) cannot be taken out of the plain module, but
    the twin need not multiply by them.

    Args:
        layer: reads ``len(index)`` inputs.
        index: the positions it reads, ascending.
        inputs: how many positions there are.
    """

    index: Tensor

    def __init__(self, layer: VariationalLinear, index: Int[Tensor, " live"], inputs: int) -> None:
        super().__init__()
        self.layer = layer
        self.inputs = inputs
        self.register_buffer("index", index)

    def forward(self, x: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch out"]:
        """What the layer makes of the positions that are left."""
        if self.index.numel() == self.inputs:
            return self.layer(x)  # type: ignore[no-any-return]
        return self.layer(x.index_select(-1, self.index))  # type: ignore[no-any-return]

    def spread(self, columns: Float[Tensor, "out live"]) -> Float[Tensor, "out inputs"]:
        """The columns in their places, zeros elsewhere."""
        full = columns.new_zeros(columns.shape[0], self.inputs)
        return full.index_copy_(1, self.index, columns)

    def plain(self) -> nn.Linear:
        """The plain layer of the posterior mean, with zero columns where nothing is read."""
        small = to_plain(self.layer)
        assert isinstance(small, nn.Linear)
        with torch.no_grad():
            small.weight = nn.Parameter(self.spread(small.weight), small.weight.requires_grad)
        small.in_features = self.inputs
        return small


def variational_readers(
    network: nn.Module,
) -> Iterator[tuple[str, VariationalLayer, GatheredLinear | None]]:
    """(path in the plain network, layer, what gathers its inputs) of every variational layer."""
    inside = {id(m.layer) for m in network.modules() if isinstance(m, GatheredLinear)}
    for path, module in network.named_modules():
        if isinstance(module, GatheredLinear):
            yield path, module.layer, module
        elif isinstance(module, VariationalLayer) and id(module) not in inside:
            yield path, module, None
