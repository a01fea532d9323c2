"""Which layers become variational, which stay, and that the twin can say why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.convert import Twin, bayesianize
from epigram.errors import ConfigError, UnsupportedModelError
from epigram.layers import (
    ScaleUse,
    VariationalEmbedding,
    VariationalLayer,
    VariationalLinear,
    VariationalMultiheadAttention,
    VariationalTransposedLinear,
    from_plain,
    sampling,
    shared_draws,
)
from epigram.priors import GroupJeffreys


class Plainly(nn.Linear):
    """A subclass without a forward of its own, with a field of its own."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.note = "kept"


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Zoo(nn.Module):
    """One of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 6)
        self.padded = nn.Embedding(11, 6, padding_idx=0)
        self.offset = nn.Parameter(torch.randn(6))
        self.norm = nn.LayerNorm(6)
        self.memory = nn.GRU(6, 6, batch_first=True)
        self.plainly = Plainly(6, 6)
        self.doubled = Doubled(6, 6)
        self.weighted = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.hooked = nn.Linear(6, 6)
        self.hooked.register_forward_hook(lambda module, args, out: out + 1)
        self.borrowed = nn.Linear(6, 6)
        self.unused = nn.Linear(6, 6)
        self.slope = nn.PReLU(6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.odd_attention = nn.MultiheadAttention(6, 2, batch_first=True, add_zero_attn=True)
        self.up = nn.Linear(6, 7)
        self.middle = nn.Linear(7, 6)
        self.head = nn.Linear(6, 11)
        self.head.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.norm(self.table(tokens) + self.padded(tokens) + self.offset)
        x = x + self.memory(x)[0]
        for layer in (self.plainly, self.doubled, self.weighted, self.frozen, self.hooked):
            x = x + layer(x)
        x = x + F.linear(x, self.borrowed.weight, self.borrowed.bias)
        x = x + self.attention(x, x, x)[0] + self.odd_attention(x, x, x, need_weights=False)[0]
        x = self.slope(x.transpose(1, 2)).transpose(1, 2)
        return self.head(x + self.middle(F.relu(self.up(x))))


Converted = tuple[nn.Module, Tensor, Twin]


@pytest.fixture(scope="module")
def zoo() -> Converted:
    """Converted once, since tracing it takes a while; nobody changes it."""
    torch.manual_seed(0)
    network, tokens = Zoo().double().eval(), torch.randint(0, 11, (3, 5))
    return network, tokens, bayesianize(network, tokens)


def test_every_layer_has_a_twin_or_a_reason(zoo: Converted) -> None:
    twin = zoo[2]
    variational = {
        name
        for name, module in twin.network.named_modules()
        if isinstance(module, VariationalLayer | VariationalMultiheadAttention)
    }
    inner = {"attention.in_proj", "attention.out_proj"}
    assert variational - inner == {"plainly", "attention", "up", "middle"}
    assert {name: why.split(":")[0] for name, why in twin.deterministic.items()} == {
        "table": "tied",
        "padded": "an embedding with padding_idx",
        "offset": "a parameter that forward uses by itself",
        "norm": "normalisation",
        "memory": "recurrent",
        "doubled": "a Linear with a forward of its own",
        "weighted": "its weight is computed in forward (weight or spectral normalisation, a mask)",
        "frozen": "frozen (requires_grad is False)",
        "hooked": "it has forward hooks, which a counterpart would not call",
        "borrowed": "its weight is used outside of its own forward",
        "unused": "forward does not call it on the example",
        "slope": "no variational counterpart",
        "odd_attention": "attention with bias_k, bias_v or add_zero_attn",
        "head": "tied",
    }
    assert "head" in twin.deterministic["table"]


def test_the_mean_is_the_original_and_the_plain_network_comes_back_whole(zoo: Converted) -> None:
    network, tokens, twin = zoo
    torch.testing.assert_close(twin(tokens), network(tokens), rtol=1e-12, atol=1e-12)
    plain = twin.plain()
    assert {n: type(m) for n, m in plain.named_modules()} == {
        n: type(m) for n, m in network.named_modules()
    }
    assert plain.plainly.note == "kept"
    assert plain.head.weight is plain.table.weight
    for name, tensor in network.state_dict().items():
        assert torch.equal(plain.state_dict()[name], tensor), name
    frozen = [n for n, p in twin.named_parameters() if not p.requires_grad]
    assert frozen == ["network.frozen.weight", "network.frozen.bias"]


class WrittenOut(nn.Linear):
    """As in Falcon: the same function in other words, so that it may be replaced."""

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T + self.bias


class Gated(WrittenOut):
    """The same function as long as its mask is full."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("mask", torch.ones(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.mask


def test_a_linear_layer_in_other_words_is_one_and_its_units_go() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(WrittenOut(5, 8), nn.ReLU(), WrittenOut(8, 4), nn.ReLU(), Gated(4, 2))
    x = torch.randn(3, 5)
    twin = bayesianize(network, x)
    assert list(twin.deterministic) == ["4"]
    assert twin.structure.group("0").units == 8
    torch.testing.assert_close(twin.eval()(x), network(x))
    twin.shrink_({"0": np.arange(8) > 4})
    small = twin.plain()
    assert type(small[0]) is WrittenOut and tuple(small[2].weight.shape) == (4, 3)
    torch.testing.assert_close(small(x), twin(x))


def test_frozen_means_may_be_given_a_spread() -> None:
    network = Blocks()
    network.second[0].requires_grad_(False)
    x = torch.randn(2, 4)
    assert set(bayesianize(network, x).deterministic) == {"second.0"}
    twin = bayesianize(network, x, frozen="variational")
    layer = twin.network.second[0]
    assert isinstance(layer, VariationalLinear)
    assert not layer.weight_mean.requires_grad
    assert layer.weight_logvar.requires_grad
    assert not twin.plain().second[0].weight.requires_grad


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4))
        self.second = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ("first", {"first.0", "first.2"}),
        ("*.2", {"first.2", "second.2"}),
        (nn.Sequential, {"first.0", "first.2", "second.0", "second.2"}),
        (lambda module: module.out_features == 3, {"second.2"}),
    ],
)
def test_what_the_user_excludes_stays(rule: Any, left: set[str]) -> None:
    network, x = Blocks(), torch.randn(2, 4)
    if left == {"first.0", "first.2", "second.0", "second.2"}:
        with pytest.raises(UnsupportedModelError, match=r"first\.0: excluded by the user"):
            bayesianize(network, x, ignored_layers=[rule])
        return
    twin = bayesianize(network, x, ignored_layers=[rule])
    assert twin.deterministic == dict.fromkeys(sorted(left), "excluded by the user")


def test_an_excluded_module_takes_what_is_inside_with_it() -> None:
    network, x = Blocks(), torch.randn(2, 4)
    twin = bayesianize(network, x, ignored_layers=[network.second])
    assert set(twin.deterministic) == {"second.0", "second.2"}
    assert twin.unscaled == {
        "first.2": "read by second.0, which stays as it is: excluded by the user",
        "second.0": "read by second.2, which stays as it is: excluded by the user",
    }
    assert "first.0" in twin.names


def test_a_group_with_a_deterministic_reader_has_no_scale() -> None:
    """Its scale would be noise to one reader while the other still needs the unit."""

    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.left, self.right = nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.stem(x))
            return self.left(x) + self.right(x)

    x = torch.randn(2, 4)
    assert "stem" in bayesianize(Forked(), x).names
    twin = bayesianize(Forked(), x, ignored_layers=["right"])
    assert "stem" not in twin.names
    assert twin.unscaled["stem"].startswith("read by right")


def test_a_name_that_fits_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'frist' fits no module.*first\.0"):
        bayesianize(Blocks(), torch.randn(2, 4), ignored_layers=["frist"])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda n: n.half(), r"first\.0: its weights are torch\.float16.*\.float\(\)"),
        (lambda n: n.bfloat16(), r"first\.0: its weights are torch\.bfloat16"),
        (lambda n: n.to("meta"), r"first\.0: its weights are on the meta device.*to_empty"),
        (lambda n: n.requires_grad_(False), r"first\.0: frozen.*and 1 more"),
    ],
)
def test_networks_that_cannot_be_trained_are_refused(
    spoil: Callable[[nn.Module], nn.Module], said: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=said):
        bayesianize(spoil(Blocks()), torch.randn(2, 4))


def test_examples_off_axis_0_leave_a_reader_without_a_scale() -> None:
    """Windows on the batch axis: no draw per example fits them."""

    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.mix, self.head = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.stem(x))
            x = F.relu(self.mix(x.reshape(-1, 2, x.shape[-1])))
            return self.head(x.reshape(-1, 8, x.shape[-1])).mean(1)

    x = torch.randn(3, 8, 4)
    twin = bayesianize(Windows(), x)
    assert twin.unscaled == {"stem": "mix does not read the examples on axis 0"}
    assert "mix" in twin.names
    twin.train()(x)


# --- embeddings and Hugging Face's Conv1D ----------------------------------------------------------


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


# --- whole transformers ----------------------------------------------------------------------------


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
