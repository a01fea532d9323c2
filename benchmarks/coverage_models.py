"""The networks of coverage.py: how each is built at random weights, and what it is called with.

Networks of more than 100 million parameters are built with fewer or narrower blocks; the case says so.
Nothing is downloaded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Inputs = tuple[Any, ...]
BATCH = 2


@dataclass(frozen=True)
class Case:
    """One network.

    Attributes:
        suite: ``classification``, ``segmentation``, ``detection``, ``timm`` or ``transformers``.
        name: of the constructor.
        build: the network, random weights.
        inputs: positional arguments of one call, from a seeded generator.
        reduced: what was made smaller; "" where nothing was.
    """

    suite: str
    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[torch.Generator], Inputs]
    reduced: str = ""

    @property
    def key(self) -> str:
        """``suite/name``."""
        return f"{self.suite}/{self.name}"


def cases(suites: list[str]) -> list[Case]:
    """All networks of these suites, in a fixed order."""
    found: list[Case] = []
    for suite in suites:
        found += SUITES[suite]()
    return found


def images(generator: torch.Generator, *, side: int = 224, channels: int = 3) -> Inputs:
    """Two images."""
    return (torch.randn(BATCH, channels, side, side, generator=generator),)


# --- torchvision ------------------------------------------------------------------------------

_SIDES = {"inception_v3": 299}


def classification() -> list[Case]:
    """Every classification constructor of torchvision."""
    from torchvision import models

    names = models.list_models(module=models)
    return [_classifier(name) for name in names]


def _classifier(name: str) -> Case:
    from torchvision import models

    build = functools.partial(models.get_model, name, weights=None)
    if name in ("inception_v3", "googlenet"):
        build = functools.partial(build, aux_logits=False, init_weights=False)
    reduced = ""
    if name in _REDUCED:
        build, reduced = _REDUCED[name]
    side = _SIDES.get(name, 224)
    return Case("classification", name, build, functools.partial(images, side=side), reduced)


def _vision_transformer(patch: int, heads: int, width: int) -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(224, patch, 2, heads, width, 4 * width)


def _regnet(
    depth: int, w_0: int, w_a: float, w_m: float, group: int, se: float | None
) -> nn.Module:
    from torchvision.models.regnet import BlockParams, RegNet

    params = BlockParams.from_init_params(
        depth=depth, w_0=w_0, w_a=w_a, w_m=w_m, group_width=group, se_ratio=se
    )
    return RegNet(params)


_REDUCED: Mapping[str, tuple[Callable[[], nn.Module], str]] = {
    "vit_l_16": (functools.partial(_vision_transformer, 16, 16, 1024), "2 of 24 blocks"),
    "vit_l_32": (functools.partial(_vision_transformer, 32, 16, 1024), "2 of 24 blocks"),
    "vit_h_14": (functools.partial(_vision_transformer, 14, 16, 1280), "2 of 32 blocks"),
    "regnet_y_128gf": (
        functools.partial(_regnet, 27, 152, 53.4, 2.88, 88, 0.25),
        "a third of the width",
    ),
}


def segmentation() -> list[Case]:
    """Every segmentation constructor of torchvision."""
    from torchvision import models

    return [
        Case(
            "segmentation",
            name,
            functools.partial(
                models.get_model, name, weights=None, weights_backbone=None, num_classes=21
            ),
            functools.partial(images, side=128),
        )
        for name in models.list_models(module=models.segmentation)
    ]


def detection() -> list[Case]:
    """Every detection constructor of torchvision; called with a list of images."""
    from torchvision import models

    def pictures(generator: torch.Generator) -> Inputs:
        return ([torch.rand(3, 160, 160, generator=generator) for _ in range(BATCH)],)

    return [
        Case(
            "detection",
            name,
            functools.partial(
                models.get_model, name, weights=None, weights_backbone=None, num_classes=5
            ),
            pictures,
        )
        for name in models.list_models(module=models.detection)
    ]


# --- timm -------------------------------------------------------------------------------------


_MORE = (
    "resmlp_12_224",
    "mobilenetv2_050",
    "efficientnet_lite0",
    "mnasnet_050",
    "fbnetc_100",
    "poolformer_s12",
    "resnext50_32x4d",
    "seresnet18",
    "ecaresnet26t",
    "repvgg_a0",
    "lambda_resnet26t",
    "botnet26t_256",
    "resnetv2_50x1_bit",
)
_INSTEAD: Mapping[str, str] = {"senet": "legacy_seresnet18", "mobilenetv5": "mobilenetv5_base"}
_SHALLOW: Mapping[str, Mapping[str, int]] = {
    "deepseek_vit_412m": {"depth": 2},
    "gemma4_vit_167m": {"depth": 2},
}


def timm_models() -> list[Case]:
    """A small constructor of each of timm's families (its modules), and some more."""
    import timm

    firsts = [_INSTEAD.get(m) or _smallest(timm.list_models(module=m)) for m in timm.list_modules()]
    return [_timm(name) for name in dict.fromkeys([*firsts, *_MORE])]


_SMALL_WORDS = ("atto", "femto", "pico", "nano", "tiny", "_xxs", "_xs", "_t_", "_s", "small", "18")


def _smallest(names: list[str]) -> str:
    """The name that sounds smallest: by such words, then by length."""

    def order(name: str) -> tuple[int, int, str]:
        rank = next((i for i, word in enumerate(_SMALL_WORDS) if word in name), len(_SMALL_WORDS))
        return rank, len(name), name

    return min((name for name in names if not name.startswith("test_")), key=order)


def _timm(name: str) -> Case:
    import timm

    fields = _SHALLOW.get(name, {})

    def build() -> nn.Module:
        return timm.create_model(name, pretrained=False, num_classes=10, **fields)

    def inputs(generator: torch.Generator) -> Inputs:
        config = timm.models.get_pretrained_cfg(name)
        channels, height, width = config.input_size if config is not None else (3, 224, 224)
        return (torch.randn(BATCH, channels, height, width, generator=generator),)

    return Case("timm", name, build, inputs, "2 blocks" if fields else "")


# --- transformers -----------------------------------------------------------------------------

_SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 500,
    "max_position_embeddings": 256,
}
_GROUPED = {**_SMALL, "num_key_value_heads": 2}
_TEXT: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "bert": ("BertForSequenceClassification", _SMALL),
    "roberta": ("RobertaForSequenceClassification", _SMALL),
    "distilbert": (
        "DistilBertForSequenceClassification",
        {"dim": 64, "hidden_dim": 128, "n_layers": 2, "n_heads": 4, "vocab_size": 500},
    ),
    "albert": ("AlbertForSequenceClassification", {**_SMALL, "embedding_size": 32}),
    "electra": ("ElectraForSequenceClassification", {**_SMALL, "embedding_size": 32}),
    "deberta-v2": ("DebertaV2ForSequenceClassification", _SMALL),
    "gpt2": (
        "GPT2LMHeadModel",
        {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 500, "n_positions": 256},
    ),
    "gpt_neox": ("GPTNeoXForCausalLM", _SMALL),
    "opt": (
        "OPTForCausalLM",
        {**_SMALL, "ffn_dim": 128, "word_embed_proj_dim": 64},
    ),
    "bloom": (
        "BloomForCausalLM",
        {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 500},
    ),
    "llama": ("LlamaForCausalLM", _GROUPED),
    "mistral": ("MistralForCausalLM", _GROUPED),
    "qwen2": ("Qwen2ForCausalLM", _GROUPED),
    "gemma": ("GemmaForCausalLM", {**_GROUPED, "head_dim": 16}),
    "phi": ("PhiForCausalLM", _SMALL),
    "falcon": (
        "FalconForCausalLM",
        {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 500},
    ),
    "t5": (
        "T5EncoderModel",
        {
            "d_model": 64,
            "d_kv": 16,
            "d_ff": 128,
            "num_layers": 2,
            "num_heads": 4,
            "vocab_size": 500,
        },
    ),
}
_PICTURES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "vit": ("ViTForImageClassification", {**_SMALL, "image_size": 64, "patch_size": 16}),
    "deit": ("DeiTForImageClassification", {**_SMALL, "image_size": 64, "patch_size": 16}),
    "convnext": (
        "ConvNextForImageClassification",
        {"hidden_sizes": [16, 32, 64, 64], "depths": [1, 1, 2, 1]},
    ),
    "resnet": (
        "ResNetForImageClassification",
        {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [2, 2]},
    ),
    "segformer": (
        "SegformerForImageClassification",
        {"hidden_sizes": [16, 32, 40, 64], "depths": [1, 1, 1, 1], "decoder_hidden_size": 32},
    ),
}


def transformers_models() -> list[Case]:
    """Hugging Face architectures at small random configurations."""
    found = []
    for kind, (name, fields) in _TEXT.items():
        build = functools.partial(_transformer, kind, name, fields)
        found.append(Case("transformers", kind, build, _tokens, "small configuration"))
    for kind, (name, fields) in _PICTURES.items():
        build = functools.partial(_transformer, kind, name, fields)
        shown = functools.partial(images, side=64)
        found.append(Case("transformers", kind, build, shown, "small configuration"))
    return found


def _tokens(generator: torch.Generator) -> Inputs:
    return (torch.randint(3, 500, (BATCH, 128), generator=generator),)


class FirstTensor(nn.Module):
    """A Hugging Face network that returns its first tensor instead of a record."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits or hidden states."""
        return self.network(x, return_dict=False)[0]


def _transformer(kind: str, name: str, fields: Mapping[str, Any]) -> nn.Module:
    import transformers

    config = transformers.AutoConfig.for_model(kind, **fields)
    if hasattr(config, "use_cache"):
        config.use_cache = False
    if getattr(config, "pad_token_id", 0) is None:
        config.pad_token_id = 0
    return FirstTensor(getattr(transformers, name)(config))


SUITES: Mapping[str, Callable[[], list[Case]]] = {
    "classification": classification,
    "segmentation": segmentation,
    "detection": detection,
    "timm": timm_models,
    "transformers": transformers_models,
}
