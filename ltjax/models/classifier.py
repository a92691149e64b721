"""The whole network: backbone, whitening, head."""

from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax

from ltjax.errors import require
from ltjax.models.convnet import ConvNet
from ltjax.models.heads import LinearHead
from ltjax.whitening import METHODS as WHITENINGS
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


def make_model(
    num_classes: int,
    *,
    name: str,
    width: int,
    blocks: int,
    axis_name: str | None,
    whitening: str,
    **settings: Any,
) -> Classifier:
    """Builds the network that a config names.

    Args:
      num_classes: C.
      name: "convnet".
      width: channels of the first stage; the features have twice as many.
      blocks: residual blocks per stage.
      axis_name: mapped axis over which batches are spread.
      whitening: one of `ltjax.whitening.METHODS`.
      **settings: other attributes of `ltjax.whitening.ChannelWhitening`.

    Raises:
      InputError: an unknown name, or groups that do not divide the features.
    """
    require(name == "convnet", "model.name", name, "convnet")
    require(
        whitening in WHITENINGS, "whitening.method", whitening, f"one of {', '.join(WHITENINGS)}"
    )
    backbone = ConvNet((width, 2 * width), blocks, axis_name)
    layer = None
    if whitening != "none":
        layer = ChannelWhitening(method=whitening, axis_name=axis_name, **settings)
        layer.check(2 * width)
    return Classifier(backbone, num_classes, layer)
