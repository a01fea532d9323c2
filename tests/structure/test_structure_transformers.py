"""torch's own transformers with masks: heads and MLP units go, exactly, however the masks are given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import transformer

from epigram.convert import bayesianize
from epigram.structure import analyse, mask_units, remove_units, slice_plan, verify_removal

pytestmark = pytest.mark.filterwarnings(
    "ignore:The PyTorch API of nested tensors", "ignore:enable_nested_tensor is True"
)


def causal(length: int) -> Tensor:
    return nn.Transformer.generate_square_subsequent_mask(length, dtype=torch.float64)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 4, 12, batch_first=True)
        self.stem, self.body, self.head = (
            nn.Linear(6, 8),
            nn.TransformerEncoder(layer, 1),
            nn.Linear(8, 3),
        )
        self.register_buffer("mask", causal(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x), mask=self.mask))


class Banded(Encoder):
    """A mask that is not the causal one."""

    def __init__(self) -> None:
        super().__init__()
        self.mask[2:, 0] = float("-inf")


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerDecoderLayer(8, 4, 12, batch_first=True)
        self.stem, self.body, self.head = (
            nn.Linear(6, 8),
            nn.TransformerDecoder(layer, 1),
            nn.Linear(8, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x), self.stem(x[:, 1:]), tgt_mask=causal(5)))


class Translator(nn.Module):
    """Tokens with padding at the end of the source; causal in the target."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(9, 8), nn.Linear(8, 9)
        self.body = nn.Transformer(8, 4, 1, 1, 12, batch_first=True)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        padding = source == 0
        masks = {"src_key_padding_mask": padding, "memory_key_padding_mask": padding}
        masks["tgt_mask"] = causal(target.shape[1])
        return self.head(self.body(self.words(source), self.words(target), **masks))


class Chooses(Encoder):
    """Cannot be followed as a whole; what can is called by keyword."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        return self.head(self.body(src=y if y.sum() < 1e9 else -y, mask=self.mask))


SEQUENCES = (torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0)).double(),)
SENTENCES = (torch.tensor([[3, 1, 4, 1, 5], [2, 7, 1, 0, 0]]), torch.tensor([[6, 2, 8], [1, 8, 2]]))
HEADS = ("self_attn", "multihead_attn")
CASES = {
    "encoder": (Encoder, SEQUENCES, 1),
    "banded mask": (Banded, SEQUENCES, 1),
    "decoder": (Decoder, SEQUENCES, 2),
    "padding and causal": (Translator, SENTENCES, 3),
    "part by keyword": (Chooses, SEQUENCES, 1),
}


@pytest.mark.parametrize("case", CASES)
def test_with_masks_heads_and_units_go_exactly(case: str) -> None:
    kind, inputs, attentions = CASES[case]
    torch.manual_seed(0)
    network = kind().double().eval()
    detects = transformer._detect_is_causal_mask
    structure = analyse(network, inputs)
    assert transformer._detect_is_causal_mask is detects
    assert torch.backends.mha.get_fastpath_enabled()
    heads = [g for g in structure.groups if g.name.endswith(HEADS)]
    units = [g for g in structure.groups if g.name.endswith("linear1")]
    assert [g.units for g in heads] == [4] * attentions
    assert [g.units for g in units] == [12] * (2 if kind is Translator else 1)
    keep = {g.name: np.arange(g.units) % 2 == 0 for g in structure.groups}
    small = remove_units(network, slice_plan(structure, keep))
    verify_removal(small, mask_units(network, structure, keep), inputs, tolerance=1e-12)
    twin = bayesianize(network, inputs, structure=structure)
    assert not twin.unscaled
    torch.testing.assert_close(twin(*inputs), network(*inputs), rtol=1e-12, atol=1e-12)
    twin.train()(*inputs).square().sum().backward()
