"""The whole network: backbone, whitening, head."""

import dataclasses
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.errors import FLAG, integer, number, one_of, option, require
from ltjax.models.convnet import ConvNet
from ltjax.models.heads import HEADS, make_head
from ltjax.models.layers import DTYPES
from ltjax.models.resnet import SHAPES, ResNet
from ltjax.models.resnet_cifar import ResNetCifar
from ltjax.whitening import METHODS as WHITENINGS
from ltjax.whitening import ChannelWhitening, StandardizedWhitening

# Ridge of the standard deviations that `standardize` divides by: a channel may not vary at all.
STANDARDIZING_RIDGE = 1e-3


class Outputs(NamedTuple):
    """Logits `[B, C]`, pooled features `[B, D]` and the head's inputs `[B, D]`."""

    logits: chex.Array
    features: chex.Array
    whitened: chex.Array


class Classifier(nn.Module):
    """Backbone, then whitening where there is one, then the head.

    Attributes:
      backbone: images `[B, H, W, C]` to features `[B, D]`.
      head: features `[B, D]` to logits `[B, C]`.
      whitening: a module used like `flax.linen.BatchNorm`, or None.
    """

    backbone: nn.Module
    head: nn.Module
    whitening: nn.Module | None = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        """Images `[B, H, W, C]`, normalised, to `Outputs`."""
        # Whitening and head compute in float32 whatever the backbone's dtype.
        features = self.backbone(images, train=train).astype(jnp.float32)
        whitened = features
        if self.whitening is not None:
            whitened = self.whitening(features, use_running_average=not train)
        return Outputs(self.head(whitened), features, whitened)


CIFAR_DEPTHS = (8, 20, 32, 44, 56, 110)
BACKBONES = ("convnet", *(f"resnet{depth}_cifar" for depth in CIFAR_DEPTHS), *SHAPES)


def make_backbone(
    name: str,
    *,
    width: int = 32,
    blocks: int = 1,
    dtype: str = "float32",
    zero_residual: bool = False,
    axis_name: str | None = None,
) -> nn.Module:
    """Builds the backbone that a config names; `.features` are its output's channels.

    Args:
      name: one of `BACKBONES`.
      width: convnet: channels of the first stage; the features have twice as many.
      blocks: convnet: residual blocks per stage.
      dtype: "float32" or "bfloat16", of the computation; parameters are float32.
      zero_residual: start the residual blocks of a resnet as the identity.
      axis_name: mapped axis over which batches are spread.

    Raises:
      InputError: an unknown name.
    """
    require(name in BACKBONES, "model.name", name, f"one of {', '.join(BACKBONES)}")
    require(dtype in DTYPES, "model.dtype", dtype, f"one of {', '.join(DTYPES)}")
    kind = DTYPES[dtype]
    if name == "convnet":
        return ConvNet((width, 2 * width), blocks, axis_name, kind)
    if name in SHAPES:
        return ResNet(SHAPES[name], axis_name, kind, zero_residual)
    depth = int(name.removeprefix("resnet").removesuffix("_cifar"))
    return ResNetCifar(depth, axis_name, kind, zero_residual)


def make_model(
    num_classes: int,
    *,
    name: str,
    width: int,
    blocks: int,
    axis_name: str | None,
    whitening: str,
    dtype: str = "float32",
    zero_residual: bool = False,
    head: str = "linear",
    head_scale: float = 30.0,
    standardize: bool = False,
    **settings: Any,
) -> Classifier:
    """Builds the network that a config names.

    Args:
      num_classes: C.
      name: of the backbone; it, `width`, `blocks`, `dtype`, `zero_residual` as for
        `make_backbone`.
      width: see there.
      blocks: see there.
      axis_name: mapped axis over which batches are spread.
      whitening: one of `ltjax.whitening.METHODS`.
      dtype: see `make_backbone`.
      zero_residual: see `make_backbone`.
      head: one of `ltjax.models.heads.HEADS`.
      head_scale: of the head `cosine`.
      standardize: divide channels by their standard deviation before they are whitened.
      **settings: other attributes of `ltjax.whitening.ChannelWhitening`.

    Raises:
      InputError: an unknown name, or groups that do not divide the features.
    """
    require(
        whitening in WHITENINGS, "whitening.method", whitening, f"one of {', '.join(WHITENINGS)}"
    )
    backbone = make_backbone(
        name,
        width=width,
        blocks=blocks,
        dtype=dtype,
        zero_residual=zero_residual,
        axis_name=axis_name,
    )
    layer: ChannelWhitening | StandardizedWhitening | None = None
    if whitening != "none":
        layer = ChannelWhitening(method=whitening, axis_name=axis_name, **settings)
        if standardize:
            first = ChannelWhitening(
                method="batch_norm",
                axis_name=axis_name,
                shrinkage=STANDARDIZING_RIDGE,
                momentum=layer.momentum,
            )
            layer = StandardizedWhitening(first, layer)
        layer.check(backbone.features)
    return Classifier(backbone, make_head(head, num_classes, scale=head_scale), layer)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What a configuration says of the network."""

    name: str = option("convnet", one_of(*BACKBONES), "backbone")
    width: int = option(32, integer(1), "convnet: channels of the first stage; features: twice")
    blocks: int = option(1, integer(1), "convnet: residual blocks per stage")
    dtype: str = option("float32", one_of(*DTYPES), "of the backbone's computation")
    zero_residual: bool = option(False, FLAG, "resnets: start blocks as the identity")
    head: str = option("auto", one_of("auto", *HEADS), "classifier")
    head_scale: float = option(30.0, number(0, open_low=True), "of the head cosine")
