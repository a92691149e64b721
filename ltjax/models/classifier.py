"""The whole network: backbone, whitening, head."""

from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.models.projector import CONTRAST


class Outputs(NamedTuple):
    """What the network returns.

    Attributes:
      logits: `[B, C]`.
      features: pooled features of the backbone, `[B, D]`, float32.
      whitened: inputs of the head, `[B, D]`; the features themselves if there is no whitening.
    """

    logits: chex.Array
    features: chex.Array
    whitened: chex.Array


class Classifier(nn.Module):
    """Backbone, whitening (if there is any) and head, applied in this order.

    Attributes:
      backbone: images `[B, H, W, C]` to features `[B, D]`.
      head: features `[B, D]` to logits `[B, C]`.
      whitening: a module used like `flax.linen.BatchNorm`, or None.
      projector: of the head's inputs, for a contrastive loss, or None; what it returns is left in
        the collection `CONTRAST` where that is mutable.
    """

    backbone: nn.Module
    head: nn.Module
    whitening: nn.Module | None = None
    projector: nn.Module | None = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        """Maps a batch of images to logits.

        Args:
          images: `[B, H, W, C]`, normalized.
          train: whether to use the statistics of the batch and update the running ones.

        Returns:
          Logits, features and the inputs of the head.
        """
        # Whitening and head compute in float32 whatever the backbone's dtype.
        features = self.backbone(images, train=train).astype(jnp.float32)
        whitened = features
        if self.whitening is not None:
            whitened = self.whitening(features, use_running_average=not train)
        if self.projector is not None:
            self.sow(CONTRAST, "found", self.projector(whitened), lambda _, new: new, lambda: None)
        return Outputs(self.head(whitened), features, whitened)
