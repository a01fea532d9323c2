"""Layers with tied variances: who ties, parts of a layer, attention, 16 bits. Moments are in the contract."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from epigram.layers import VariationalLinear, VariationalMultiheadAttention, base, from_plain
from epigram.layers.base import VariationalLayer


def _random_(layer: VariationalLayer) -> VariationalLayer:
    with torch.no_grad():
        for logvar in layer.parameters_of("weight")[1:]:
            logvar.add_(torch.randn_like(logvar))
    return layer


@pytest.mark.parametrize(
    ("plain", "outputs", "inputs"),
    [
        (nn.Linear(5, 3), (3, 1), (1, 5)),
        (nn.Conv2d(4, 6, 3), (6, 1, 1, 1), (1, 4, 3, 3)),
        (nn.Conv1d(4, 6, 3, groups=2), (6, 1, 1), (1, 2, 3)),
        (nn.Conv2d(4, 8, 3, groups=4), (8, 1, 1, 1), (1, 1, 3, 3)),
        (nn.ConvTranspose1d(4, 6, 3, groups=2), (1, 3, 1), (4, 1, 3)),
        (nn.Linear(5, 1), None, None),
        (nn.Conv2d(4, 4, 3, groups=4), None, None),
        (nn.ConvTranspose2d(4, 4, 3, groups=4), None, None),
        (nn.Embedding(7, 5), None, None),
    ],
)
def test_layers_tie_where_outputs_share(plain: nn.Module, outputs, inputs) -> None:
    layer = from_plain(plain, logvar_init=-5.0, variances="tied")
    if outputs is None:
        assert layer.weight_logvar.shape == layer.weight_mean.shape
        assert layer.weight_output_logvar is layer.weight_input_logvar is None
    else:
        assert layer.weight_logvar is None
        assert layer.weight_output_logvar.shape == outputs
        assert layer.weight_input_logvar.shape == inputs
    assert layer.weight_log_variance().shape == layer.weight_mean.shape
    assert (layer.weight_log_variance() == -5.0).all()


def test_without_being_asked_nothing_ties_and_names_are_as_ever() -> None:
    names = set(from_plain(nn.Conv2d(4, 6, 3)).state_dict())
    assert names == {"weight_mean", "weight_logvar", "bias_mean", "bias_logvar"}


def test_parts_of_a_linear_layer_have_their_outputs_moments() -> None:
    layer = _random_(VariationalLinear(5, 6, variances="tied", dtype=torch.float64))
    x = torch.randn(3, 5, dtype=torch.float64)
    torch.manual_seed(4)
    ours = layer.rows(x, 2, 5)
    torch.manual_seed(4)
    noise = torch.randn_like(ours)
    variance = x.square() @ layer.weight_log_variance().exp()[2:5].T + layer.bias_logvar[2:5].exp()
    expected = (
        x @ layer.weight_mean[2:5].T + layer.bias_mean[2:5] + noise * (variance + 1e-8).sqrt()
    )
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
    layer.noise = "weights"
    assert layer.rows(x, 2, 5).shape == (3, 3)


@pytest.mark.parametrize("same", [True, False])
def test_attention_ties_its_projections(same: bool) -> None:
    plain = nn.MultiheadAttention(8, 2, batch_first=True)
    tied = VariationalMultiheadAttention(plain, variances="tied").double()
    each = VariationalMultiheadAttention(plain).double()
    for ours, theirs in zip(tied.projections().values(), each.projections().values(), strict=True):
        theirs.weight_logvar.data = _random_(ours).weight_log_variance().detach()
    query = torch.randn(2, 4, 8, dtype=torch.float64)
    key = query if same else torch.randn(2, 5, 8, dtype=torch.float64)
    drawn = []
    for attention in (tied, each):
        torch.manual_seed(1)
        drawn.append(attention.train()(query, key, key)[0])
    torch.testing.assert_close(*drawn, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("channels_last", [False, True])
def test_in_16_bits_the_spread_is_right_to_their_precision(
    channels_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = _random_(from_plain(nn.Conv2d(8, 6, 3, padding=1), logvar_init=-3.0, variances="tied"))
    x = torch.randn(4, 8, 6, 6)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)

    def spread(ones: float) -> Tensor:
        monkeypatch.setattr(base, "standard_normal_like", lambda like: torch.full_like(like, ones))
        return layer(x).detach().double()

    exact = (spread(1.0) - spread(-1.0)) / 2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = (spread(1.0) - spread(-1.0)) / 2
    assert (rounded - exact).abs().max() < 0.03 * exact.max()
