"""The whole network: backbone, whitening, head."""

from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp


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
        """Maps normalized images `[B, H, W, C]` to `Outputs`."""
        # Whitening and head compute in float32 whatever the backbone's dtype.
        features = self.backbone(images, train=train).astype(jnp.float32)
        whitened = features
        if self.whitening is not None:
            whitened = self.whitening(features, use_running_average=not train)
        return Outputs(self.head(whitened), features, whitened)
