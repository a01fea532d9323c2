"""The twin of nn.MultiheadAttention: every way of calling it, against torch's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from epigram.errors import ConfigError, UnsupportedModelError
from epigram.layers import (
    ScaleUse,
    VariationalMultiheadAttention,
    sampling,
    shared_draws,
    total_kl_nats,
)
from epigram.priors import GroupJeffreys

WIDTH, HEADS, LENGTH, SOURCE, BATCH = 12, 3, 5, 4, 2


def original(**fields: Any) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(WIDTH, HEADS, dtype=torch.float64, **fields)
    if module.in_proj_bias is not None:
        nn.init.normal_(module.in_proj_bias)
        nn.init.normal_(module.out_proj.bias)
    return module.eval()


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    batch_first=st.booleans(),
    bias=st.booleans(),
    separate=st.booleans(),
    inputs=st.sampled_from(["self", "cross", "all different"]),
    unbatched=st.booleans(),
    mask=st.sampled_from([None, "causal", "added", "per head"]),
    padded=st.booleans(),
    need_weights=st.booleans(),
    average=st.booleans(),
)
def test_eval_is_the_original(
    batch_first, bias, separate, inputs, unbatched, mask, padded, need_weights, average
):
    widths = {"kdim": 7, "vdim": 9} if separate else {}
    module = original(batch_first=batch_first, bias=bias, **widths)
    twin = VariationalMultiheadAttention(module)
    assert not twin.training

    def made(length: int, width: int) -> Tensor:
        shape = (BATCH, length, width) if batch_first else (length, BATCH, width)
        return torch.randn((length, width) if unbatched else shape, dtype=torch.float64)

    query = made(LENGTH, WIDTH)
    key = query if inputs == "self" else made(SOURCE, widths.get("kdim", WIDTH))
    value = key if inputs != "all different" else made(SOURCE, widths.get("vdim", WIDTH))
    if separate:
        key, value = made(SOURCE, 7), made(SOURCE, 9)
    source = LENGTH if key is query else SOURCE
    more: dict[str, Any] = {"need_weights": need_weights, "average_attn_weights": average}
    if mask == "causal":
        more["attn_mask"] = torch.ones(LENGTH, source, dtype=torch.bool).triu(1)
    elif mask == "added":
        more["attn_mask"] = torch.randn(LENGTH, source, dtype=torch.float64)
    elif mask == "per head":
        examples = 1 if unbatched else BATCH
        more["attn_mask"] = torch.randn(examples * HEADS, LENGTH, source, dtype=torch.float64)
    if padded:
        padding = torch.zeros(BATCH, source, dtype=torch.bool)
        padding[:, -1] = True
        more["key_padding_mask"] = padding[0] if unbatched else padding
    if mask in ("added", "per head") and padded:  # torch wants both masks of one type
        more["key_padding_mask"] = more["key_padding_mask"].double() * -1e9
    for one, other in zip(
        twin(query, key, value, **more), module(query, key, value, **more), strict=True
    ):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("separate", [True, False])
def test_there_and_back_keeps_every_bit(bias: bool, separate: bool) -> None:
    module = original(bias=bias, **({"kdim": 7, "vdim": 9} if separate else {}))
    back = VariationalMultiheadAttention(module).plain()
    assert type(back) is nn.MultiheadAttention
    assert type(back.out_proj) is type(module.out_proj)
    assert back.state_dict().keys() == module.state_dict().keys()
    for name, tensor in module.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor)
        assert back.state_dict()[name].data_ptr() != tensor.data_ptr()


@pytest.mark.parametrize("inputs", ["self", "cross"])
def test_sampled_moments_are_those_of_sampled_weights(inputs: str) -> None:
    """q, k and v against draws of the weights themselves, within 5 standard errors."""
    torch.manual_seed(1)
    twin = VariationalMultiheadAttention(original(batch_first=True), logvar_init=-2.0)
    x = torch.randn(1, 1, WIDTH, dtype=torch.float64)
    other = x if inputs == "self" else torch.randn(1, 1, WIDTH, dtype=torch.float64)
    draws = 4000
    many = x.expand(draws, 1, WIDTH)
    source = many if inputs == "self" else other.expand(draws, 1, WIDTH)
    twin.train()
    found = torch.cat(twin._projected(many, source, source), -1)[:, 0]
    blocks = []
    for number, read in enumerate((x, other, other)):
        rows = slice(number * WIDTH, (number + 1) * WIDTH)
        (weight, bias), (weight_spread, bias_spread) = (
            (w[rows], b[rows]) for w, b in twin.in_proj.posterior()
        )
        weights = weight + torch.randn(draws, *weight.shape) * (weight_spread / 2).exp()
        biases = bias + torch.randn(draws, WIDTH) * (bias_spread / 2).exp()
        blocks.append(weights @ read[0, 0] + biases)
    expected = torch.cat(blocks, -1)
    error = 5 * (2 * expected.var(0) / draws).sqrt()
    assert ((found.mean(0) - expected.mean(0)).abs() < error).all()
    ratio = found.var(0) / expected.var(0)
    assert ((ratio - 1).abs() < 5 * 2 / draws**0.5).all()


def test_a_shared_scale_acts_on_all_that_read_it_and_folds_in() -> None:
    twin = VariationalMultiheadAttention(original(batch_first=True))
    scale = GroupJeffreys(WIDTH, dtype=torch.float64)
    with torch.no_grad():
        scale.z_mean.uniform_(0.5, 1.5)
    twin.in_proj.scale_uses = [ScaleUse(scale)]
    x = torch.randn(BATCH, LENGTH, WIDTH, dtype=torch.float64)
    expected = original(batch_first=True)(x * scale.z_mean, x * scale.z_mean, x * scale.z_mean)[0]
    torch.testing.assert_close(twin(x, x, x)[0], expected, rtol=1e-12, atol=1e-12)
    plain = twin.plain().eval()
    torch.testing.assert_close(plain(x, x, x)[0], expected, rtol=1e-12, atol=1e-12)
    parts = [twin.in_proj.weight_kl_nats(), twin.out_proj.weight_kl_nats(), scale.kl_nats()]
    torch.testing.assert_close(total_kl_nats(twin), sum(parts))
    twin.train()
    with shared_draws([scale], BATCH):
        twin(x, x + 1, x)[0].sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in twin.parameters())
    assert (scale.z_logvar.grad != 0).all()


def test_sampling_in_eval_leaves_dropout_off() -> None:
    twin = VariationalMultiheadAttention(original(batch_first=True, dropout=1.0))
    x = torch.randn(BATCH, LENGTH, WIDTH, dtype=torch.float64)
    with sampling(twin):
        a, b = twin(x, x, x)[0], twin(x, x, x)[0]
    assert not torch.equal(a, b)
    still = twin(x, x, x)[0]
    assert (a - still).abs().max() < 1.0  # nothing was dropped


@pytest.mark.parametrize("fields", [{"add_bias_kv": True}, {"add_zero_attn": True}])
def test_what_it_cannot_do_is_refused(fields: dict[str, bool]) -> None:
    with pytest.raises(UnsupportedModelError, match="add_zero_attn"):
        VariationalMultiheadAttention(original(**fields))


def test_masks_of_a_wrong_shape_are_refused() -> None:
    twin = VariationalMultiheadAttention(original(batch_first=True))
    x = torch.randn(BATCH, LENGTH, WIDTH, dtype=torch.float64)
    with pytest.raises(ConfigError, match=r"attn_mask of shape \[5, 4\], expected \[5, 5\]"):
        twin(x, x, x, attn_mask=torch.zeros(5, 4))
    with pytest.raises(ConfigError, match=r"key_padding_mask of shape \[5\], expected \[2, 5\]"):
        twin(x, x, x, key_padding_mask=torch.zeros(5, dtype=torch.bool))
    with pytest.raises(ConfigError, match="is_causal without attn_mask"):
        twin(x, x, x, is_causal=True)
