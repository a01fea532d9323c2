"""The networks of coverage.py: how each is built at random weights, and what it is called with.

Networks of more than 100 million parameters are built with fewer or narrower blocks, and images are
smaller than usual where the architecture takes them; the case says so. Nothing is downloaded.
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
        training: positional arguments of a call in ``train()``; None = as ``inputs``.
        heard: modules whose outputs are compared in place of the network's, where that chooses by
            value: at random weights scores are tied, and rounding decides which boxes come first.
    """

    suite: str
    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[torch.Generator], Inputs]
    reduced: str = ""
    training: Callable[[torch.Generator], Inputs] | None = None
    heard: tuple[str, ...] = ()

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

_SIDE = 64
_SIDES = {"inception_v3": 96, "maxvit_t": 224}
"""At less than 96 nothing is left at the end; MaxViT's windows divide every map."""


def classification() -> list[Case]:
    """Every classification constructor of torchvision."""
    from torchvision import models

    names = models.list_models(module=models)
    return [_classifier(name) for name in names]


def _classifier(name: str) -> Case:
    from torchvision import models

    build = functools.partial(models.get_model, name, weights=None)
    side, reduced, training = _SIDES.get(name, _SIDE), "", None
    if name in ("inception_v3", "googlenet"):
        build = functools.partial(build, init_weights=False)
    if (
        name == "inception_v3"
    ):  # its auxiliary classifier, in training only, takes maps of this size
        training = functools.partial(images, side=299)
    if name.startswith("vgg"):
        build, reduced = functools.partial(_vgg, name), "a classifier of 1024 units"
    if name.startswith("vit"):
        side = 112 if name == "vit_h_14" else 128
        build = functools.partial(build, image_size=side)
    if name.startswith("swin"):
        side = 112  # a whole number of windows, more than one
    if name in _REDUCED:
        build, reduced = _REDUCED[name]
    given = functools.partial(images, side=side)
    return Case("classification", name, build, given, _said(side, reduced), training)


def _said(side: int, more: str = "", usual: int = 224) -> str:
    return "; ".join(filter(None, [f"images of {side} pixels" if side != usual else "", more]))


def _vgg(name: str) -> nn.Module:
    from torchvision import models

    network = models.get_model(name, weights=None, init_weights=False)
    network.classifier = nn.Sequential(
        nn.Linear(512 * 7 * 7, 1024),
        nn.ReLU(True),
        nn.Dropout(),
        nn.Linear(1024, 1024),
        nn.ReLU(True),
        nn.Dropout(),
        nn.Linear(1024, 1000),
    )
    return network


def _vision_transformer(side: int, patch: int, heads: int, width: int) -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(side, patch, 2, heads, width, 4 * width)


def _regnet(
    depth: int, w_0: int, w_a: float, w_m: float, group: int, se: float | None
) -> nn.Module:
    from torchvision.models.regnet import BlockParams, RegNet

    params = BlockParams.from_init_params(
        depth=depth, w_0=w_0, w_a=w_a, w_m=w_m, group_width=group, se_ratio=se
    )
    return RegNet(params)


def _wide_resnet() -> nn.Module:
    from torchvision.models.resnet import Bottleneck, ResNet

    return ResNet(Bottleneck, [1, 1, 2, 1], width_per_group=128)


def _convnext_large() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    widths = (192, 384, 768, 1536, None)
    blocks = [CNBlockConfig(widths[i], widths[i + 1], n) for i, n in enumerate((1, 1, 2, 1))]
    return ConvNeXt(blocks)


def _efficientnet_v2_l() -> nn.Module:
    from torchvision.models.efficientnet import EfficientNet, _efficientnet_conf

    settings, channels = _efficientnet_conf("efficientnet_v2_l")
    for block in settings:
        block.num_layers = -(-block.num_layers // 5)
    return EfficientNet(settings, 0.4, last_channel=channels)


_REDUCED: Mapping[str, tuple[Callable[[], nn.Module], str]] = {
    "vit_l_16": (functools.partial(_vision_transformer, 128, 16, 16, 1024), "2 of 24 blocks"),
    "vit_l_32": (functools.partial(_vision_transformer, 128, 32, 16, 1024), "2 of 24 blocks"),
    "vit_h_14": (functools.partial(_vision_transformer, 112, 14, 16, 1280), "2 of 32 blocks"),
    "regnet_y_32gf": (
        functools.partial(_regnet, 20, 120, 57.88, 2.53, 120, 0.25),
        "half of the width",
    ),
    "regnet_y_128gf": (
        functools.partial(_regnet, 27, 152, 53.4, 2.88, 88, 0.25),
        "a third of the width",
    ),
    "wide_resnet101_2": (_wide_resnet, "5 of 33 blocks"),
    "convnext_large": (_convnext_large, "5 of 36 blocks"),
    "efficientnet_v2_l": (_efficientnet_v2_l, "a fifth of the depth"),
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
            functools.partial(images, side=_SIDE),
            _said(_SIDE),
        )
        for name in models.list_models(module=models.segmentation)
    ]


_SCENE, _PROPOSALS, _BOXES = 160, 64, 8


def detection() -> list[Case]:
    """Every detection constructor of torchvision; called with a list of images, and of boxes in training."""
    from torchvision import models

    return [_detector(name) for name in models.list_models(module=models.detection)]


def _detector(name: str) -> Case:
    from torchvision import models

    fields: dict[str, Any] = {"weights": None, "weights_backbone": None, "num_classes": 5}
    reduced = ""
    if not name.startswith("ssd"):  # those have one size
        fields |= {"min_size": _SCENE, "max_size": _SCENE}
        reduced = f"images of {_SCENE} pixels"
    if "rcnn" in name:  # a head runs on every proposal, those for masks and key points on every box
        fields |= {f"rpn_post_nms_top_n_{when}": _PROPOSALS for when in ("train", "test")}
        fields["box_detections_per_img"] = _BOXES
        reduced += f", {_PROPOSALS} proposals, {_BOXES} boxes"
    if name.startswith("keypoint"):
        fields["num_classes"] = 2
    build = functools.partial(models.get_model, name, **fields)
    labelled = functools.partial(_labelled, name=name)
    heard = () if "rcnn" in name else ("head",)
    return Case("detection", name, build, _scenes, reduced, labelled, heard)


def _scenes(generator: torch.Generator) -> Inputs:
    return ([torch.rand(3, _SCENE, _SCENE, generator=generator) for _ in range(BATCH)],)


def _labelled(generator: torch.Generator, *, name: str) -> Inputs:
    (scenes,) = _scenes(generator)
    target: dict[str, Tensor] = {
        "boxes": torch.tensor([[10.0, 20.0, 90.0, 120.0], [40.0, 30.0, 150.0, 140.0]]),
        "labels": torch.tensor([1, 1]),
    }
    if name.startswith("mask"):
        target["masks"] = torch.ones(2, _SCENE, _SCENE, dtype=torch.uint8)
    if name.startswith("keypoint"):
        target["keypoints"] = torch.tensor([60.0, 70.0, 1.0]).expand(2, 17, 3).clone()
    return scenes, [dict(target) for _ in scenes]


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
_SHALLOW: Mapping[str, Mapping[str, Any]] = {
    "beit_base_patch16_224": {"depth": 4},
    "deepseek_vit_412m": {"depth": 2},
    "gemma4_vit_167m": {"depth": 2},
    "naflexvit_base_patch16_siglip": {"depth": 2},
    "qwen3_vit_88m": {"depth": 2},
    "samvit_base_patch16": {"depth": 2, "global_attn_indexes": (1,), "img_size": 256},
}
_TIMM_SIDES: Mapping[str, int] = {
    "deepseek_vit_412m": 126,
    "gemma4_vit_167m": 96,
    "sam2_hiera_tiny": 224,
    "samvit_base_patch16": 256,
}
_TIMM_SIDE = 96


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
    config = timm.models.get_pretrained_cfg(name)
    usual, fixed = (config.input_size[-1], config.fixed_input_size) if config else (224, False)
    least = config.min_input_size[-1] if config and config.min_input_size else 0
    side = _TIMM_SIDES.get(name, usual if fixed else max(_TIMM_SIDE, least))
    build = functools.partial(timm.create_model, name, pretrained=False, num_classes=10, **fields)
    shallow = f"{fields['depth']} blocks" if fields else ""
    shown = functools.partial(images, side=side)
    return Case("timm", name, build, shown, _said(side, shallow, usual))


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
