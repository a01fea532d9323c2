"""The LeNets on MNIST."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from epigram.convert import CodingSettings, PosteriorSettings
from epigram.data import Augment, Preprocess, Warp, mnist
from epigram.pipeline import LADDER, CompressSettings, Recipe, SteerSettings
from epigram.prune import PruneSettings
from epigram.quantize import QuantizeSettings
from epigram.recipes.networks import LeNet5Caffe, LeNet300100, LeNet300100Conv
from epigram.train import TrainSettings

_MEAN, _STD = 0.1307, 0.3081

_TEACHER_SHARE = 0.5

_UNSTEERED = SteerSettings(structure=False)
"""Where a recipe has a KL weight of its own."""

_MLP = CompressSettings(
    plain=TrainSettings(epochs=20),
    structure=TrainSettings(
        epochs=30,
        kl_weight=0.3,
        kl_warmup_epochs=4.0,
        logvar_lr_factor=10.0,
        scale_lr_factor=10.0,
        grad_clip=5.0,
    ),
    finetune=TrainSettings(epochs=20, learning_rate=2e-3),
    bits=LADDER,
    teacher_share=_TEACHER_SHARE,
    steer=_UNSTEERED,
)

_CONV = CompressSettings(
    plain=TrainSettings(epochs=8),
    structure=TrainSettings(
        epochs=18,
        kl_weight=1.5,
        kl_warmup_epochs=1.0,
        logvar_lr_factor=10.0,
        scale_lr_factor=20.0,
        grad_clip=5.0,
    ),
    prune=PruneSettings(shrink_cut=1.0, shrink_patience=1),
    finetune=TrainSettings(epochs=25, learning_rate=2e-3),
    bits=LADDER,
    teacher_share=_TEACHER_SHARE,
    steer=_UNSTEERED,
)

_CONV_HORSESHOE = replace(
    _CONV,
    structure=replace(_CONV.structure, kl_weight=1.3, kl_warmup_epochs=2.0),
    finetune=replace(_CONV.finetune, epochs=40),
    posterior=PosteriorSettings(prior="group-horseshoe", scale_logvar_init=-2.0),
    prune=PruneSettings(candidates=64, tolerance=0.003),
)

_MLP_BITS = replace(
    _MLP,
    finetune=replace(_MLP.finetune, epochs=5),
    bits=TrainSettings(
        epochs=60,
        batch_size=256,
        learning_rate=2e-3,
        scale_lr_factor=3.0,
        final_factor=0.02,
        kl_warmup_epochs=15.0,
    ),
    coding=CodingSettings(steps_per_std=4.0),
    quantize=QuantizeSettings(order_tries=2000),
    teacher_share=0.9,
    teacher_temperature=3.0,
)

_CONV_BITS = replace(
    _CONV,
    structure=replace(_CONV.structure, kl_weight=0.15),
    finetune=replace(_CONV.finetune, epochs=5),
    bits=replace(
        _MLP_BITS.bits,
        epochs=78,
        cycles=6,
        learning_rate=1.5e-3,
        scale_lr_factor=4.0,
        kl_weight=0.15,
        kl_warmup_epochs=6.0,
    ),
    coding=replace(_MLP_BITS.coding, kernels="cosine"),
    steer=SteerSettings(ahead=0.0, harder=0.0, anticipate=2.5, cycle_rate=0.5),
    teacher_share=0.9,
    teacher_temperature=1.5,
)


def _recipe(
    name: str, description: str, build: type[nn.Module], settings: CompressSettings, floor: str
) -> Recipe:
    return Recipe(
        name=name,
        description=description,
        build=build,
        load_data=mnist.splits,
        preprocess=Preprocess(_MEAN, _STD),
        augment=Augment(shift=1),
        settings=settings,
        floor=floor,
    )


def lenet_300_100() -> Recipe:
    """LeNet-300-100 on MNIST."""
    return _recipe(
        "lenet-300-100/mnist",
        "784-300-100-10 multilayer perceptron on MNIST",
        LeNet300100,
        _MLP,
        "accuracy>=0.981",
    )


def lenet_300_100_conv() -> Recipe:
    """The same function with 1x1 convolutions in place of linear layers."""
    return _recipe(
        "lenet-300-100-conv/mnist",
        "LeNet-300-100 written as 1x1 convolutions, on MNIST",
        LeNet300100Conv,
        _MLP,
        "accuracy>=0.981",
    )


def lenet_5() -> Recipe:
    """LeNet-5-Caffe on MNIST, group normal-Jeffreys."""
    return _recipe(
        "lenet-5/mnist",
        "LeNet-5-Caffe (20-50-800-500) on MNIST",
        LeNet5Caffe,
        _CONV,
        "accuracy>=0.9905",
    )


def lenet_5_horseshoe() -> Recipe:
    """LeNet-5-Caffe on MNIST, group horseshoe."""
    return _recipe(
        "lenet-5-horseshoe/mnist",
        "LeNet-5-Caffe on MNIST with the group horseshoe",
        LeNet5Caffe,
        _CONV_HORSESHOE,
        "accuracy>=0.9905",
    )


def lenet_5_bits() -> Recipe:
    """LeNet-5-Caffe on MNIST, trained by the bytes of its file."""
    recipe = _recipe(
        "lenet-5-bits/mnist",
        "LeNet-5-Caffe on MNIST with a bits pass: the loss is the size of the file",
        LeNet5Caffe,
        _CONV_BITS,
        "accuracy>=0.989",
    )
    return replace(recipe, bits_augment=Warp())


def lenet_300_100_bits() -> Recipe:
    """LeNet-300-100 on MNIST, trained by the bytes of its file."""
    return _recipe(
        "lenet-300-100-bits/mnist",
        "LeNet-300-100 on MNIST with a bits pass: the loss is the size of the file",
        LeNet300100,
        _MLP_BITS,
        "accuracy>=0.981",
    )
