"""The variational counterpart of Hugging Face's ``Conv1D``: a linear layer, weight [in, out]."""

from __future__ import annotations

from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from epigram.layers.base import VariationalLayer


def is_hugging_face_conv1d(module: nn.Module) -> bool:
    """Is it ``transformers.pytorch_utils.Conv1D`` itself? Asked without importing transformers."""
    kind = type(module)
    return kind.__name__ == "Conv1D" and kind.__module__.partition(".")[0] == "transformers"


class VariationalTransposedLinear(VariationalLayer):
    """A linear layer that keeps its weight as [in, out], with a scale on its inputs.

    GPT-2 and its relatives are made of these. There is no constructor with sizes: a twin is made
    from the layer itself, ``from_plain(layer)``.
    """

    plain_class: ClassVar[type[nn.Module]] = nn.Module
    input_axis: ClassVar[int] = 0
    output_axis: ClassVar[int] = 1

    @property
    def nx(self) -> int:
        """Number of inputs."""
        return self.weight_mean.shape[0]

    @property
    def nf(self) -> int:
        """Number of outputs."""
        return self.weight_mean.shape[1]

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """Sampled outputs in ``train()``, the posterior mean's in ``eval()``."""
        return self._forward(x, _apply)

    def plain_fields(self) -> dict[str, Any]:
        """The sizes the original names."""
        return {"nf": self.nf, "nx": self.nx}

    def _set_geometry(self, plain: nn.Module) -> None:
        """A linear layer has none."""

    def _inputs(self) -> int:
        return self.nx

    def _prepare(self, x: Tensor) -> Tensor:
        return x

    def _fold(self, weight: Tensor, factor: Tensor) -> Tensor:
        return weight * factor.to(weight.dtype).unsqueeze(1)


def _apply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``bias + x W`` over the last axis, in the original's order of operations."""
    flat = x.reshape(-1, x.shape[-1])
    product = flat @ weight if bias is None else bias.addmm(flat, weight)
    return product.view(*x.shape[:-1], weight.shape[1])
