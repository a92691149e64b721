"""Classifier heads: from (whitened) features to logits."""

import flax.linen as nn
import jax


class LinearHead(nn.Module):
    """`logits = z W + b`, features `[B, D] -> [B, C]`; W starts small, b at 0."""

    num_classes: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Features `[B, D]` to logits `[B, C]`."""
        init = nn.initializers.normal(0.01)
        return nn.Dense(self.num_classes, kernel_init=init, name="dense")(z)
