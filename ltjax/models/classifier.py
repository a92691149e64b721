"""The whole network: backbone, whitening, head."""

from typing import NamedTuple

import chex
import flax.linen as nn
import jax

from ltjax.errors import require
from ltjax.models.convnet import ConvNet
from ltjax.models.heads import LinearHead
from ltjax.whitening import ChannelWhitening


class Outputs(NamedTuple):
    """Logits `[B, C]`, pooled features `[B, D]` and the head's inputs `[B, D]`."""

    logits: chex.Array
    features: chex.Array
    whitened: chex.Array


class Classifier(nn.Module):
    """Backbone, then whitening where there is one, then the linear head.

    Attributes:
      backbone: images `[B, H, W, C]` to features `[B, D]`.
      num_classes: C.
      whitening: a module used like `flax.linen.BatchNorm`, or None.
    """

    backbone: nn.Module
    num_classes: int
    whitening: nn.Module | None = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        """Images `[B, H, W, C]`, normalised, to `Outputs`."""
        features = self.backbone(images, train=train)
        whitened = features
        if self.whitening is not None:
            whitened = self.whitening(features, use_running_average=not train)
        return Outputs(LinearHead(self.num_classes, name="head")(whitened), features, whitened)


WHITENINGS = ("none", "zca")


def make_model(
    num_classes: int,
    *,
    name: str,
    width: int,
    blocks: int,
    whitening: str,
    shrinkage: float,
    momentum: float,
    axis_name: str | None,
) -> Classifier:
    """Builds the network that a config names.

    Args:
      num_classes: C.
      name: "convnet".
      width: channels of the first stage; the features have twice as many.
      blocks: residual blocks per stage.
      whitening: one of `WHITENINGS`.
      shrinkage: relative ridge of the whitening.
      momentum: of the whitening's running statistics.
      axis_name: mapped axis over which batches are spread.

    Raises:
      InputError: an unknown name.
    """
    require(name == "convnet", "model.name", name, "convnet")
    require(
        whitening in WHITENINGS, "whitening.method", whitening, f"one of {', '.join(WHITENINGS)}"
    )
    backbone = ConvNet((width, 2 * width), blocks, axis_name)
    layer = None
    if whitening == "zca":
        layer = ChannelWhitening(momentum=momentum, shrinkage=shrinkage, axis_name=axis_name)
    return Classifier(backbone, num_classes, layer)
