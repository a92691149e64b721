"""Backbones and heads by name, and the options of a network with what builds it from them."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn

from ltjax.errors import FLAG, TEXT, Option, integer, one_of, option, require
from ltjax.models.classifier import Classifier
from ltjax.models.convnet import ConvNet
from ltjax.models.depth import STOCHASTIC_DEPTH
from ltjax.models.efficientnet_lite import EfficientNetLite
from ltjax.models.experts import EXPERTS, Experts
from ltjax.models.heads import (
    HEAD_SCALE,
    CosineHead,
    LinearHead,
    MarginCalibrationHead,
    TauNormHead,
    WeightScalingHead,
)
from ltjax.models.initialization import INIT, INITIALIZATIONS
from ltjax.models.layers import DTYPES, Computation
from ltjax.models.max_norm import MaxNormHead
from ltjax.models.mlp import HIDDEN, MLP
from ltjax.models.projector import PROJECTION
from ltjax.models.resnet import ResNet, Shape
from ltjax.models.resnet_cifar import ResNetCifar
from ltjax.models.vit import VITS, VisionTransformer, ViTShape
from ltjax.whitening.linen import ChannelWhitening, StandardizedWhitening
from ltjax.whitening.methods import METHOD
from ltjax.whitening.options import WhiteningConfig

# Ridge of the standard deviations that `standardize` divides by: a channel may be constant.
STANDARDIZING_RIDGE = 1e-3


def _how(by: Computation) -> dict[str, Any]:
    """What a backbone does not decide itself; the constants of its batch norm are its own."""
    names = ("axis_name", "dtype", "native", "kernel_init")
    return {name: getattr(by, name) for name in names}


def _convnet(config: "ModelConfig", by: Computation) -> ConvNet:
    widths = (config.width, 2 * config.width)
    return ConvNet(widths, config.blocks, **_how(by))


def _resnet_cifar(depth: int, config: "ModelConfig", by: Computation) -> ResNetCifar:
    drop = config.stochastic_depth
    return ResNetCifar(depth, zero_residual=config.zero_residual, stochastic_depth=drop, **_how(by))


def _resnet(shape: Shape, config: "ModelConfig", by: Computation) -> ResNet:
    drop = config.stochastic_depth
    return ResNet(shape, zero_residual=config.zero_residual, stochastic_depth=drop, **_how(by))


def _efficientnet_lite(config: "ModelConfig", by: Computation) -> EfficientNetLite:
    return EfficientNetLite(**_how(by))


def _vit(shape: ViTShape, config: "ModelConfig", by: Computation) -> VisionTransformer:
    drop = config.stochastic_depth
    return VisionTransformer(shape, by.dtype, config.remat, stochastic_depth=drop)


def _mlp(config: "ModelConfig", by: Computation) -> MLP:
    return MLP(tuple(config.hidden), by.axis_name, by.dtype, by.kernel_init)


# Functions that build a backbone from the options of a network and from how it computes.
BACKBONES: dict[str, Callable[["ModelConfig", Computation], nn.Module]] = {
    "convnet": _convnet,
    "resnet8_cifar": partial(_resnet_cifar, 8),
    "resnet20_cifar": partial(_resnet_cifar, 20),
    "resnet32_cifar": partial(_resnet_cifar, 32),
    "resnet44_cifar": partial(_resnet_cifar, 44),
    "resnet56_cifar": partial(_resnet_cifar, 56),
    "resnet110_cifar": partial(_resnet_cifar, 110),
    "resnet10": partial(_resnet, Shape((1, 1, 1, 1), False)),
    "resnet18": partial(_resnet, Shape((2, 2, 2, 2), False)),
    "resnet50": partial(_resnet, Shape((3, 4, 6, 3), True)),
    "resnet101": partial(_resnet, Shape((3, 4, 23, 3), True)),
    "resnet152": partial(_resnet, Shape((3, 8, 36, 3), True)),
    "resnext50_32x4d": partial(_resnet, Shape((3, 4, 6, 3), True, 32, 4)),
    "efficientnet_lite0": _efficientnet_lite,
    **{name: partial(_vit, shape) for name, shape in VITS.items()},
    "mlp": _mlp,
}
# Those without residual branches that stochastic depth could drop.
WITHOUT_DEPTH = ("convnet", "efficientnet_lite0", "mlp")
# Those that take features `[B, D]` too; the others take only images `[B, H, W, C]`.
TAKE_FEATURES = ("mlp",)


def _linear(config: "ModelConfig", num_classes: int) -> LinearHead:
    how = INITIALIZATIONS[config.init]
    return LinearHead(num_classes, how.kernel, how.bias)


def _cosine(config: "ModelConfig", num_classes: int) -> CosineHead:
    return CosineHead(num_classes, config.head_scale)


def _tau_norm(config: "ModelConfig", num_classes: int) -> TauNormHead:
    return TauNormHead(num_classes)


def _lws(config: "ModelConfig", num_classes: int) -> WeightScalingHead:
    return WeightScalingHead(num_classes)


def _marc(config: "ModelConfig", num_classes: int) -> MarginCalibrationHead:
    return MarginCalibrationHead(num_classes)


def _max_norm(config: "ModelConfig", num_classes: int) -> MaxNormHead:
    return MaxNormHead(num_classes)


# Functions that build a head from the options of a network and the number of classes.
HEADS: dict[str, Callable[["ModelConfig", int], nn.Module]] = {
    "linear": _linear,
    "cosine": _cosine,
    "tau_norm": _tau_norm,
    "lws": _lws,
    "marc": _marc,
    "max_norm": _max_norm,
}

DTYPE = Option("float32", one_of(*DTYPES), "dtype of the backbone's computation")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Options of the network: the section `model` of the keys.

    `head` may be "auto", the default of the run's method; it must be resolved before a network is
    built.
    """

    name: str = option("convnet", one_of(*BACKBONES), "backbone")
    weights: str = option(
        "",
        TEXT,
        "pretrained weights that the backbone starts from: a name of docs/pretrained.md, a .pth, "
        ".safetensors or .npz file, or hf:REPO or hf:REPO/FILE of the Hugging Face hub; they also "
        "say what data.statistics=dataset means",
    )
    width: int = option(
        32, integer(1, 1024), "convnet: channels of the first stage; the features are twice as many"
    )
    blocks: int = option(1, integer(1, 64), "convnet: residual blocks per stage")
    hidden: tuple[int, ...] = HIDDEN.field()
    dtype: str = DTYPE.field()
    zero_residual: bool = option(
        False, FLAG, "resnets: whether blocks are initialized as the identity"
    )
    remat: bool = option(
        False,
        FLAG,
        "vit: gradient checkpointing: compute each block again in the backward pass instead of "
        "keeping its values; more time for less memory, on GPUs and TPUs only",
    )
    stochastic_depth: float = STOCHASTIC_DEPTH.field()
    init: str = INIT.field()
    head: str = option("auto", one_of("auto", *HEADS), "head, the classifier on the features")
    head_scale: float = HEAD_SCALE.field()
    experts: int = EXPERTS.field()
    projection: int = PROJECTION.field()
    head_init: str = option(
        "random",
        TEXT,
        "what the head starts from: random; class_means, of its inputs on the training images; or "
        "an .npy, .npz or .safetensors file of a vector for each class, [C, D]",
    )

    @property
    def given(self) -> bool:
        """Whether whitening and head act on the given features, so that they alone are trained."""
        return self.name in TAKE_FEATURES and not self.hidden


def make_backbone(
    config: ModelConfig, *, axis_name: str | None = None, native: bool = False
) -> nn.Module:
    """Builds the backbone of a configuration.

    Args:
      config: options of the network.
      axis_name: mapped axis over which batches are spread.
      native: whether to use native kernels where they are available (`ltjax.kernels`).

    Returns:
      A module from images `[B, H, W, C]`, or given features for one of `TAKE_FEATURES`, to features
      `[B, D]`; its attribute `features` is D, or None where it is that of the input.

    Raises:
      InputError: an unknown name.

    >>> make_backbone(ModelConfig(name="resnet32_cifar")).features
    64
    """
    one_of_them = one_of(*BACKBONES)
    require(one_of_them.check(config.name), "model.name", config.name, one_of_them.words)
    DTYPE.check("model.dtype", config.dtype)
    INIT.check("model.init", config.init)
    HIDDEN.check("model.hidden", config.hidden)
    by = Computation(
        axis_name, DTYPES[config.dtype], native, INITIALIZATIONS[config.init].convolution
    )
    return BACKBONES[config.name](config, by)


def make_head(config: ModelConfig, num_classes: int) -> nn.Module:
    """Builds the classifier of a configuration.

    Args:
      config: options of the network, with `head` resolved.
      num_classes: C.

    Returns:
      A module from features `[B, D]` to logits `[B, C]`.

    Raises:
      InputError: an unknown name, or a scale that is not positive.
    """
    one_of_them = one_of(*HEADS)
    require(one_of_them.check(config.head), "model.head", config.head, one_of_them.words)
    HEAD_SCALE.check("model.head_scale", config.head_scale)
    EXPERTS.check("model.experts", config.experts)
    heads = tuple(HEADS[config.head](config, num_classes) for _ in range(config.experts))
    return heads[0] if len(heads) == 1 else Experts(heads)


def make_whitening(
    config: WhiteningConfig, *, axis_name: str | None = None, native: bool = False
) -> ChannelWhitening | StandardizedWhitening | None:
    """Builds the whitening of a configuration.

    Args:
      config: options of the whitening, with `method` resolved.
      axis_name: mapped axis over which batches are spread.
      native: whether to use the native eigendecomposition where it is faster.

    Returns:
      The layer, or None for the method "none".

    Raises:
      InputError: an unknown method.
    """
    METHOD.check("whitening.method", config.method)
    if config.method == "none":
        return None
    layer = ChannelWhitening(
        method=config.method,
        shrinkage=config.shrinkage,
        momentum=config.momentum,
        groups=config.groups,
        memory=config.memory,
        stats_every=config.stats_every,
        steps=config.steps,
        axis_name=axis_name,
        native=native,
    )
    if not config.standardize:
        return layer
    first = ChannelWhitening(
        method="batch_norm",
        shrinkage=STANDARDIZING_RIDGE,
        momentum=config.momentum,
        axis_name=axis_name,
    )
    return StandardizedWhitening(first, layer)


def make_model(
    config: ModelConfig,
    whitening: WhiteningConfig,
    num_classes: int,
    *,
    axis_name: str | None = None,
    native: bool = False,
) -> Classifier:
    """Builds the network of a configuration.

    Args:
      config: options of the network, resolved.
      whitening: options of the whitening before the classifier, resolved.
      num_classes: C.
      axis_name: mapped axis over which batches are spread.
      native: see `make_backbone`.

    Returns:
      The network: images `[B, H, W, C]` to logits `[B, C]`.

    Raises:
      InputError: an unknown name, or groups that do not divide the features.

    >>> model = make_model(ModelConfig(head="linear"), WhiteningConfig(method="zca"), 10)
    >>> model.backbone.features, model.whitening.shrinkage, model.head.num_classes
    (64, 0.1, 10)
    """
    layer = make_whitening(whitening, axis_name=axis_name, native=native)
    backbone = make_backbone(config, axis_name=axis_name, native=native)
    if layer is not None and backbone.features is not None:
        layer.check(backbone.features)
    return Classifier(backbone, make_head(config, num_classes), layer)
