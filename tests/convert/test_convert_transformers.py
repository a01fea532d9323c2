"""Twins of transformers, and of two layers they are made of: embeddings and Hugging Face's Conv1D."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from epigram.convert import bayesianize
from epigram.layers import (
    ScaleUse,
    VariationalEmbedding,
    VariationalMultiheadAttention,
    VariationalTransposedLinear,
    from_plain,
    sampling,
    shared_draws,
)
from epigram.priors import GroupJeffreys


def test_an_embedding_samples_rows_and_counts_its_kl() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Embedding(7, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    tokens = torch.randint(0, 7, (4, 6))
    twin = bayesianize(network, tokens)
    table = twin.network[0]
    assert isinstance(table, VariationalEmbedding)
    assert torch.equal(twin.train(False)(tokens), network(tokens))
    with torch.no_grad():
        table.weight_logvar.uniform_(-3.0, -1.0)
        table.train()
        one = torch.full((20_000,), 2)
        rows = table(one)
        expected = table.weight_logvar[2].exp()
        assert ((rows.mean(0) - table.weight_mean[2]).abs() < 5 * (expected / 20_000).sqrt()).all()
        assert ((rows.var(0) / expected - 1).abs() < 5 * (2 / 20_000) ** 0.5).all()
    by_hand = (
        0.5 * (table.weight_logvar.exp() + table.weight_mean**2 - table.weight_logvar - 1).sum()
    )
    torch.testing.assert_close(table.weight_kl_nats(), by_hand)
    assert twin.posterior()["0.weight"].mean.shape == (7, 4)


def test_an_embeddings_columns_leave_with_their_unit() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Embedding(7, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    tokens = torch.randint(0, 7, (4, 6))
    twin = bayesianize(network, tokens)
    keep = torch.tensor([True, False, True, True]).numpy()
    twin.scale("0").z_mean.data[1] = 0.0
    expected = twin.eval()(tokens)
    twin.shrink_({"0": keep})
    torch.testing.assert_close(twin(tokens), expected, rtol=1e-12, atol=1e-12)
    plain = twin.plain()
    assert (plain[0].embedding_dim, plain[0].num_embeddings) == (3, 7)
    torch.testing.assert_close(plain(tokens), expected, rtol=1e-12, atol=1e-12)


class Conv1D(nn.Module):
    """As in transformers, of which it claims to be: the twin must not need to import it."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight = nn.Parameter(0.02 * torch.randn(nx, nf))
        self.bias = nn.Parameter(torch.randn(nf))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return y.view(*x.shape[:-1], self.nf)


Conv1D.__module__ = "transformers.pytorch_utils"


def test_hugging_faces_conv1d_has_a_twin() -> None:
    torch.manual_seed(0)
    layer = Conv1D(5, 4).double()
    linear = nn.Linear(4, 5).double()
    linear.weight.data, linear.bias.data = layer.weight.data.T.clone(), layer.bias.data.clone()
    x = torch.randn(3, 6, 4, dtype=torch.float64)
    twins = []
    for plain in (layer, linear):
        scale = GroupJeffreys(4, dtype=torch.float64)
        with torch.no_grad():
            scale.z_mean.copy_(torch.tensor([0.5, 1.0, 1.5, -1.0]))
        made = from_plain(plain, scale_uses=[ScaleUse(scale)])
        torch.manual_seed(3)
        with shared_draws([scale], 3):
            sampled = made.train()(x)
        twins.append((made, sampled, made.eval()(x)))
    (ours, sampled, mean), (_, expected_sampled, expected_mean) = twins
    assert isinstance(ours, VariationalTransposedLinear)
    torch.testing.assert_close(sampled, expected_sampled, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(mean, expected_mean, rtol=1e-12, atol=1e-12)
    back = ours.plain()
    assert type(back) is Conv1D
    assert (back.nf, back.nx) == (5, 4)
    torch.testing.assert_close(back(x), mean, rtol=1e-12, atol=1e-12)


def encoder(**fields: Any) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True, **fields)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=not fields).eval()


class Reads(nn.Module):
    """An encoder behind an embedding, with padding."""

    def __init__(self, **fields: Any) -> None:
        super().__init__()
        self.encoder = encoder(**fields)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        padding = torch.zeros_like(x[..., 0], dtype=torch.bool)
        padding[0, -2:] = True
        return self.head(self.encoder(x, src_key_padding_mask=padding)[:, 0])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # the original takes them
@pytest.mark.parametrize("fields", [{}, {"norm_first": True}], ids=["norm last", "norm first"])
@pytest.mark.parametrize("ignored", [(), ("*.self_attn",)], ids=["all", "without attention"])
def test_an_encoder_is_called_layer_by_layer(fields: dict[str, bool], ignored: tuple) -> None:
    """torch's fused kernels would compute with ``layer.weight``, without noise and without scales."""
    network = Reads(**fields).double().eval()
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    twin = bayesianize(network, x, ignored_layers=ignored)
    with torch.no_grad():
        expected = network(x)
        torch.testing.assert_close(twin(x), expected, rtol=1e-12, atol=1e-12)
        with sampling(twin):
            assert not torch.allclose(twin(x), expected, rtol=1e-6)
    assert torch.backends.mha.get_fastpath_enabled()
    torch.testing.assert_close(twin.plain()(x), network(x), rtol=1e-12, atol=1e-12)
    twin.train()
    (twin(x).square().sum() + twin.kl_nats() / 100).backward()
    assert all(p.grad is not None for p in twin.parameters())


def test_a_vision_transformer_trains() -> None:
    from torchvision.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    network = VisionTransformer(16, 8, 2, 2, 16, 32, num_classes=4).double().eval()
    nn.init.normal_(network.heads.head.weight, std=0.1)
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    twin = bayesianize(network, x)
    torch.testing.assert_close(twin(x), network(x), rtol=1e-12, atol=1e-12)
    attention = twin.network.encoder.layers.encoder_layer_0.self_attention
    assert isinstance(attention, VariationalMultiheadAttention)
    assert {"class_token", "encoder.pos_embedding"} <= twin.deterministic.keys()
    twin.train()
    (twin(x).square().sum() + twin.kl_nats() / 100).backward()
    assert all(torch.isfinite(p.grad).all() for p in twin.parameters())


def test_heads_leave_as_units_of_one_scale() -> None:
    network = nn.Sequential(encoder(), nn.Linear(8, 3)).double().eval()
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    twin = bayesianize(network, x)
    heads = [
        g.name
        for g in twin.structure.groups
        if any(m.tensor.endswith("out_proj.weight") and m.role == "reads" for m in g.members)
    ]
    assert len(heads) == 2
    assert all(twin.units_kept()[name] == (2, 2) for name in heads)
    twin.scale(heads[0]).z_mean.data[1] = 0.0
    expected = twin(x)
    twin.shrink_({heads[0]: torch.tensor([True, False]).numpy()})
    attention = twin.network[0].layers[0].self_attn
    assert (attention.num_heads, attention.head_dim) == (1, 4)
    torch.testing.assert_close(twin(x), expected, rtol=1e-12, atol=1e-12)
    plain = twin.plain()
    torch.testing.assert_close(plain(x), expected, rtol=1e-12, atol=1e-12)
    again = bayesianize(plain, x)
    torch.testing.assert_close(again(x), expected, rtol=1e-12, atol=1e-12)
    twin.train()
    twin(x).sum().backward()


def crossing(*, batch_first: bool) -> tuple[nn.Module, tuple[Tensor, ...]]:
    sizes = ((4, 6), (4, 5), (4, 5)) if batch_first else ((6, 4), (5, 4), (5, 4))
    inputs = tuple(torch.randn(*n, d).double() for n, d in zip(sizes, (8, 6, 5), strict=True))
    return nn.MultiheadAttention(8, 2, kdim=6, vdim=5, batch_first=batch_first), inputs


ATTENDING = {
    "encoder": lambda first: (
        nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=first), 1, enable_nested_tensor=False
        ),
        (torch.randn(4, 6, 8).double(),),
    ),
    "transformer": lambda first: (
        nn.Transformer(8, 2, 1, 1, 16, batch_first=first),
        (torch.randn(4, 6, 8).double(), torch.randn(4, 6, 8).double()),
    ),
    "kdim and vdim": lambda first: crossing(batch_first=first),
}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("case", ATTENDING)
def test_what_an_attention_reads_of_the_input_cannot_leave(case: str, batch_first: bool) -> None:
    """Its projections have no counterpart that gathers positions; other layers go on having one."""
    torch.manual_seed(0)
    plain, inputs = ATTENDING[case](batch_first)
    network = plain.double().eval()
    twin = bayesianize(network, inputs)
    found = {name for name in twin.units_kept() if name.endswith(".positions")}
    assert found == {"encoder": {"layers.0.linear1.positions"}}.get(case, found)
    assert not any("attn" in name or "proj" in name for name in found)
    keep = {name: np.arange(units) > 0 for name, (units, _) in twin.units_kept().items()}
    for name in keep:
        twin.scale(name).z_mean.data[0] = 0.0
    expected = twin(*inputs)
    twin.shrink_(keep)
    torch.testing.assert_close(twin(*inputs), expected, rtol=1e-12, atol=1e-12)
    out = twin.train()(*inputs)
    (out[0] if isinstance(out, tuple) else out).square().sum().backward()
    torch.testing.assert_close(twin.eval().plain()(*inputs), expected, rtol=1e-12, atol=1e-12)


class SequenceFirst(nn.Module):
    """Takes examples on axis 0 and attends with torch's default, places on axis 0."""

    def __init__(self, attending: nn.Module, *, batch: int | None = None) -> None:
        super().__init__()
        self.stem, self.attending, self.head = nn.Linear(6, 8), attending, nn.Linear(8, 3)
        self.inputs = {nn.MultiheadAttention: 3, nn.Transformer: 2}.get(type(attending), 1)
        self.batch = batch

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).view(self.batch or len(x), -1, 8).permute(1, 0, 2)
        y = self.attending(*[x] * self.inputs)
        return self.head((y[0] if isinstance(y, tuple) else y).mean(0))


SEQUENCE_FIRST = {
    "attention": lambda: nn.MultiheadAttention(8, 2),
    "encoder": lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, 0.0), 1, enable_nested_tensor=False
    ),
    "transformer": lambda: nn.Transformer(8, 2, 1, 1, 16, 0.0),
}


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.parametrize("places", [5, 4], ids=["more places", "as many places"])
@pytest.mark.parametrize("kind", SEQUENCE_FIRST)
def test_each_example_has_its_draw_where_attention_has_them_on_axis_1(
    kind: str, places: int
) -> None:
    torch.manual_seed(0)
    network = SequenceFirst(SEQUENCE_FIRST[kind]()).double().eval()
    x = torch.randn(4, places, 6, dtype=torch.float64)
    twin = bayesianize(network, x)
    assert not twin.unscaled
    torch.testing.assert_close(twin(x), network(x), rtol=1e-12, atol=1e-12)
    twin.train()
    (twin(x).square().sum() + twin.kl_nats() / 100).backward()
    assert all(torch.isfinite(p.grad).all() for p in twin.parameters())
    for name in twin.names:
        outputs = []
        for changed in (1.0, 0.5):
            torch.manual_seed(3)
            with torch.no_grad(), shared_draws([twin.scale(n) for n in twin.names], 4):
                for other in twin.names:
                    draw = torch.ones(4, twin.scale(other).units, dtype=torch.float64)
                    draw[2] = changed if other == name else 1.0
                    twin.scale(other).shared_draw.values = draw
                outputs.append(twin.network(x))
        differs = (outputs[0] != outputs[1]).any(1).tolist()
        assert differs == [False, False, True, False], name


def test_where_the_axis_of_the_examples_cannot_be_known_heads_have_no_scale() -> None:
    """As many places as examples, all alike, or of a batch that is written as a number."""
    torch.manual_seed(0)
    x = torch.randn(4, 4, 6, dtype=torch.float64)
    for batch, example in ((4, x), (None, torch.ones_like(x))):
        network = SequenceFirst(nn.MultiheadAttention(8, 2), batch=batch).double().eval()
        twin = bayesianize(network, example)
        assert "on which axis attending reads" in twin.unscaled["attending"]
        twin.train()(x).sum().backward()


def test_heads_of_windows_have_no_scale() -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.head = nn.MultiheadAttention(6, 2), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            windows = x.reshape(-1, 2, 6).transpose(0, 1)
            y = self.attention(windows, windows, windows)[0].transpose(0, 1)
            return self.head(y.reshape(x.shape)).mean(1)

    x = torch.randn(2, 4, 6)
    twin = bayesianize(Windows(), x)
    assert twin.unscaled == {"attention": "attention does not read the examples on one axis"}
    twin.train()(x).sum().backward()


class Graphs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, adjacent: Tensor, x: Tensor) -> Tensor:
        return self.head(self.stem(adjacent @ x).relu())


def test_the_examples_are_what_the_output_has_on_its_first_axis() -> None:
    """Not the nodes of an adjacency matrix, although it comes first and layers see as many on axis 1."""
    twin = bayesianize(Graphs(), (torch.randn(5, 5), torch.randn(4, 5, 6))).train()
    for name, parameter in twin.named_parameters():
        if name.endswith("_logvar"):
            parameter.data.fill_(-60.0)
    twin.scale("stem").z_logvar.data.fill_(0.0)
    out = twin(torch.ones(5, 5), torch.randn(1, 5, 6).expand(4, 5, 6))
    assert torch.allclose(
        out, out[:, :1].expand_as(out), atol=5e-3
    )  # nodes of a graph share a draw
    assert not torch.allclose(out[0], out[1], atol=0.02)


def test_where_the_output_does_not_count_the_examples_nothing_is_certain() -> None:
    class Places(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).transpose(0, 1)

    network = Places(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    twin = bayesianize(network, torch.randn(4, 4, 6))
    assert "the first axis of the output does not count them" in twin.unscaled["0"]
    assert not twin.names
