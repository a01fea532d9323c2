"""The variational counterpart of nn.Embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from epigram.errors import ConfigError
from epigram.layers.base import VariationalLayer
from epigram.layers.scaling import ScaleUse
from epigram.maths.moments import sample_outputs, standard_normal_like


class VariationalEmbedding(VariationalLayer):
    """``nn.Embedding`` with a posterior over its table.

    Local reparameterisation is a look-up: the row of means plus the root of the row of variances
    times noise, fresh for every place a word stands (as for the positions of a convolution, a word
    that occurs twice is treated as if its rows were independent). Words are not units: no scale acts
    on what an embedding reads.

    Args:
        num_embeddings: as in ``nn.Embedding``.
        embedding_dim: as in ``nn.Embedding``.
        scale_uses: must be empty; here so that all layers are built alike.
        logvar_init: initial log-variance of the table.
        logvar_min: lower bound that ``clamp_`` enforces on log-variances; None = no bound.
        logvar_max: upper bound likewise.
        variance_eps: added to every output's variance, inside the root.
        device: as in ``nn.Embedding``.
        dtype: as in ``nn.Embedding``.

    Raises:
        ConfigError: a scale is given.

    Example:
        >>> layer = VariationalEmbedding(10, 4)
        >>> tuple(layer(torch.tensor([[1, 2, 2]])).shape)
        (1, 3, 4)
    """

    plain_class: ClassVar[type[nn.Module]] = nn.Embedding
    input_axis: ClassVar[int] = 0
    output_axis: ClassVar[int] = 1
    can_tie: ClassVar[bool] = False  # a look-up has no sum to save

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        scale_uses: Sequence[ScaleUse] = (),
        logvar_init: float = -9.0,
        logvar_min: float | None = None,
        logvar_max: float | None = None,
        variance_eps: float = 1e-8,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            nn.Embedding(num_embeddings, embedding_dim, device=device, dtype=dtype),
            scale_uses=scale_uses,
            logvar_init=logvar_init,
            logvar_min=logvar_min,
            logvar_max=logvar_max,
            variance_eps=variance_eps,
        )

    @property
    def num_embeddings(self) -> int:
        """Number of words."""
        return self.weight_mean.shape[0]

    @property
    def embedding_dim(self) -> int:
        """Number of outputs, read off the table, so that it is right after shrinking."""
        return self.weight_mean.shape[1]

    def forward(self, x: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch out"]:
        """Sampled rows in ``train()``, the posterior means in ``eval()``.

        Raises:
            ConfigError: a scale was put on the words.
        """
        if self.scale_uses:
            raise ConfigError(
                "VariationalEmbedding: got a scale, expected none: words are no units"
            )
        mean = F.embedding(x, self.weight_mean)
        if not (self.training or self.sampling):
            return mean
        variance = F.embedding(x, self.weight_log_variance()).exp() + self.variance_eps
        return sample_outputs(mean, variance, standard_normal_like(mean))

    def plain_fields(self) -> dict[str, Any]:
        """What ``nn.Embedding`` is called with."""
        return {"num_embeddings": self.num_embeddings, "embedding_dim": self.embedding_dim}

    def _set_geometry(self, plain: nn.Module) -> None:
        """An embedding has none."""

    def _inputs(self) -> int:
        return self.num_embeddings

    def _prepare(self, x: Tensor) -> Tensor:
        return x

    def _fold(self, weight: Tensor, factor: Tensor) -> Tensor:
        return weight * factor.to(weight.dtype).unsqueeze(1)
