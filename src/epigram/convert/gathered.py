"""A reader that no longer looks at every position of its input."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from epigram.layers import VariationalLayer, to_plain


class GatheredReader(nn.Module):
    """A variational layer that reads only the positions ``index`` of its input.

    Dead positions (pixels, positions behind a flatten) cannot be taken out of the plain module, but
    the twin need not multiply by them. A position is an input of a linear layer, or a channel of a
    convolution.

    Args:
        layer: reads ``len(index)`` inputs.
        index: the positions it reads, ascending.
        inputs: how many positions there are.
    """

    index: Tensor

    def __init__(self, layer: VariationalLayer, index: Int[Tensor, " live"], inputs: int) -> None:
        super().__init__()
        self.layer = layer
        self.inputs = inputs
        self.register_buffer("index", index)

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """What the layer makes of the positions that are left."""
        if self.index.numel() < self.inputs:
            x = x.index_select(-1 - self.layer.spatial_dims, self.index)
        return self.layer(x)  # type: ignore[no-any-return]

    @property
    def weight(self) -> Float[Tensor, "..."]:
        """The weights a plain layer would have; other code asks them for dtype and shape."""
        return self.spread(self.layer.weight)

    @property
    def bias(self) -> Float[Tensor, " out"] | None:
        """The bias a plain layer would have."""
        return self.layer.bias

    def spread(self, weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """A tensor of the layer's weight shape with its columns in their places, zeros elsewhere."""
        axis = self.layer.input_axis
        shape = list(weight.shape)
        shape[axis] = self.inputs
        return weight.new_zeros(shape).index_copy_(axis, self.index, weight)

    def plain(self) -> nn.Module:
        """The plain layer of the posterior mean, with zero columns where nothing is read."""
        small = to_plain(self.layer)
        assert isinstance(small.weight, Tensor)
        with torch.no_grad():
            weight = self.spread(small.weight)
        small.weight = nn.Parameter(weight, small.weight.requires_grad)
        name = "in_channels" if self.layer.spatial_dims else "in_features"
        setattr(small, name, self.inputs)
        return small
