"""CIFAR-10, as published and as JPEG: from a small perceptron to ResNet-50.

Every network has a recipe for each of the two data sets, ``network/cifar10`` and
``network/cifar10-jpeg``; a result names the recipe, and so the data. The settings are where to start from,
not the outcome of a search, so no floor is set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from epigram.convert import PosteriorSettings
from epigram.data import Augment, Preprocess, cifar
from epigram.pipeline import LADDER, CompressSettings, Recipe, SteerSettings
from epigram.prune import PruneSettings
from epigram.recipes.convolutional import VGG16, AllConv, MLPMeans
from epigram.recipes.pretrained import Pretrained
from epigram.recipes.residual import CifarResNet, CifarResNet50, channels_first
from epigram.train import TrainSettings

_DATA = (cifar.CIFAR10, cifar.CIFAR10_JPEG)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What the pretrained ResNets were normalised with."""

_TEACHER_SHARE = 0.5

_STRUCTURE = TrainSettings(
    epochs=30,
    lr_warmup_epochs=1.0,
    kl_warmup_epochs=5.0,
    logvar_lr_factor=10.0,
    scale_lr_factor=10.0,
    grad_clip=5.0,
    channels_last=True,
)

_SMALL = CompressSettings(
    plain=TrainSettings(epochs=40, learning_rate=2e-3, lr_warmup_epochs=1.0, channels_last=True),
    structure=_STRUCTURE,
    finetune=TrainSettings(epochs=25, learning_rate=2e-3, channels_last=True),
    bits=LADDER,
    steer=SteerSettings(),
    teacher_share=_TEACHER_SHARE,
)

_ALLCONV = replace(
    _SMALL,
    posterior=PosteriorSettings(convolution_noise="weights"),  # a third of the time of outputs'
    structure=replace(_STRUCTURE, kl_weight=4.0, kl_warmup_epochs=2.0, scale_lr_factor=30.0),
    # every filter is worth something here: what leaves costs points, of which fine-tuning wins most back
    prune=PruneSettings(shrink_cut=1.0, shrink_patience=1, tolerance=0.08),
    steer=SteerSettings(begin=0.2, rate=0.25),
)

_MLP = replace(
    _SMALL,
    plain=TrainSettings(epochs=20),
    structure=replace(_STRUCTURE, kl_weight=0.3),
    finetune=TrainSettings(epochs=20),
    steer=SteerSettings(structure=False),  # it has a KL weight of its own
)

_SGD = TrainSettings(
    epochs=120,
    optimizer="sgd",
    learning_rate=0.1,
    nesterov=True,
    weight_decay=5e-4,
    lr_warmup_epochs=2.0,
    channels_last=True,
)

_LARGE = CompressSettings(
    plain=_SGD,
    structure=replace(_STRUCTURE, epochs=60),
    finetune=replace(_SGD, epochs=30, learning_rate=0.02, weight_decay=0.0, lr_warmup_epochs=1.0),
    bits=LADDER,
    steer=SteerSettings(),
    teacher_share=_TEACHER_SHARE,
)

_RESNET = replace(_LARGE, plain=replace(_SGD, weight_decay=1e-4))

_ADAPTED = replace(
    _RESNET,
    plain=replace(_RESNET.plain, epochs=8, learning_rate=0.02, lr_warmup_epochs=0.5),
    structure=_STRUCTURE,
    finetune=replace(_RESNET.finetune, epochs=15),
)


def pretrained(depth: int, *, sha256: str, otherwise: str) -> Pretrained:
    """A CIFAR ResNet of akamaster's."""
    return Pretrained(
        file=f"resnet{depth}-cifar10.safetensors",
        sha256=sha256,
        source=f"the ResNet-{depth} of https://github.com/akamaster/pytorch_resnet_cifar10 (BSD), "
        "its state dict without the prefix 'module.' saved as safetensors",
        otherwise=otherwise,
    )


RESNET20 = pretrained(
    20,
    sha256="de6272aa23b73b6a398e854340a878d9f3af343dae25f62e30afe5eeb71325ba",
    otherwise="the recipe resnet20-scratch trains the same network from scratch",
)
RESNET56 = pretrained(
    56,
    sha256="6938a814d949e237c856074e0e132eaffba31ad84bb08b9123c13b830f34dbba",
    otherwise="the recipe resnet20-scratch needs none",
)


def adapted(blocks: int, weights: Pretrained) -> nn.Module:
    """A pretrained CIFAR ResNet, its channels in the order in which all of them can go.

    Raises:
        DataError: the weights are nowhere, or are others.
    """
    model = CifarResNet(blocks, zeros="after")
    model.load_state_dict(channels_first(weights.load()))
    return model


@dataclass(frozen=True, kw_only=True)
class _Network:
    description: str
    build: Callable[[], nn.Module]
    settings: CompressSettings
    normalise: tuple[tuple[float, ...], tuple[float, ...]] = (cifar.MEAN, cifar.STD)


_IMAGENET = (IMAGENET_MEAN, IMAGENET_STD)

_NETWORKS = {
    "mlp-means": _Network(
        description="1024-300-100-10 perceptron on the mean of the colour channels",
        build=MLPMeans,
        settings=_MLP,
    ),
    "allconv": _Network(
        description="all-convolutional network with 24 filters, strides for pooling",
        build=AllConv,
        settings=_ALLCONV,
    ),
    "resnet20": _Network(
        description="pretrained ResNet-20, adapted for 8 epochs",
        build=partial(adapted, 3, RESNET20),
        settings=_ADAPTED,
        normalise=_IMAGENET,
    ),
    "resnet20-scratch": _Network(
        description="ResNet-20 from scratch",
        build=partial(CifarResNet, 3, zeros="after"),
        settings=_RESNET,
        normalise=_IMAGENET,
    ),
    "resnet56": _Network(
        description="pretrained ResNet-56, adapted for 8 epochs",
        build=partial(adapted, 9, RESNET56),
        settings=_ADAPTED,
        normalise=_IMAGENET,
    ),
    "resnet50": _Network(
        description="ResNet-50 with the stem of small images",
        build=CifarResNet50,
        settings=_LARGE,
    ),
    "resnet50-quarter": _Network(
        description="ResNet-50 of a quarter of the width",
        build=partial(CifarResNet50, width=0.25),
        settings=_LARGE,
    ),
    "vgg16": _Network(
        description="VGG-16 with batch normalisation and a hidden layer of 512",
        build=VGG16,
        settings=replace(_LARGE, plain=replace(_SGD, learning_rate=0.05)),
    ),
}


def recipes() -> dict[str, Callable[[], Recipe]]:
    """``network/data`` -> the recipe, for every network and both data sets."""
    return {
        f"{network}/{data.name}": partial(_recipe, network, data)
        for network in _NETWORKS
        for data in _DATA
    }


def _recipe(network: str, data: cifar.Cifar) -> Recipe:
    chosen = _NETWORKS[network]
    return Recipe(
        name=f"{network}/{data.name}",
        description=f"{chosen.description}, on {data.name}",
        build=chosen.build,
        load_data=data.splits,
        preprocess=Preprocess(*chosen.normalise),
        augment=Augment(shift=4, flip=True),
        settings=chosen.settings,
    )
