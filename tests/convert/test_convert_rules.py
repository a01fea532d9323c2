"""Which layers become variational, which stay, and that the twin can say why."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epigram.convert import Twin, bayesianize
from epigram.layers import VariationalLayer, VariationalMultiheadAttention


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


def test_examples_on_no_axis_of_their_own_leave_a_reader_without_a_scale() -> None:
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
    assert twin.unscaled == {"stem": "mix does not read the examples on one axis"}
    assert "mix" in twin.names
    twin.train()(x)
