"""Transformers as the libraries write them, small and with random weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from epigram.structure import analyse, mask_units, remove_units, slice_plan, verify_removal

pytestmark = pytest.mark.filterwarnings("ignore")


def tokens() -> Tensor:
    return torch.randint(0, 50, (2, 9))


def bert() -> nn.Module:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=20,
    )
    return BertForSequenceClassification(config)


def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(vocab_size=50, n_embd=24, n_layer=1, n_head=4, n_inner=20, use_cache=False)
    )


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=6,
        num_key_value_heads=3,
        intermediate_size=20,
        use_cache=False,
    )
    return LlamaForCausalLM(config)


def vit() -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=16, patch_size=8, embed_dim=24, depth=1, num_heads=4, mlp_ratio=1, num_classes=3
    )


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], dict[str, int]]] = {
    "bert": (
        bert,
        tokens,
        {
            "bert.encoder.layer.0.attention.self.query": 4,
            "bert.encoder.layer.0.intermediate.dense": 20,
            "bert.pooler.dense": 24,
        },
    ),
    "gpt2": (gpt2, tokens, {"transformer.h.0.attn.c_attn": 4, "transformer.h.0.mlp.c_fc": 20}),
    "llama": (
        llama,
        tokens,
        {"model.layers.0.self_attn.q_proj": 3, "model.layers.0.mlp.gate_proj": 20},
    ),
    "timm vit": (
        vit,
        lambda: torch.randn(2, 3, 16, 16).double(),
        {"blocks.0.attn.qkv": 4, "blocks.0.mlp.fc1": 24},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_heads_and_hidden_units_leave_exactly(case: str) -> None:
    build, example, expected = CASES[case]
    torch.manual_seed(0)
    model = build().double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3)
    structure = analyse(model, example())
    assert {g.name: g.units for g in structure.groups} == expected
    keep = {g.name: np.arange(g.units) % 3 != 1 for g in structure.groups}
    small, masked = (
        remove_units(model, slice_plan(structure, keep)),
        mask_units(model, structure, keep),
    )
    fresh = example()
    assert verify_removal(small, masked, fresh) < 1e-8
    with pytest.raises(Exception, match="differ"):
        verify_removal(small, model, fresh)
