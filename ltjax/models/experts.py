"""Several heads on one backbone, whose logits are averaged."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.errors import Option, integer

EXPERTS = Option(
    1,
    integer(1, 16),
    "heads on the same features, whose logits are averaged; each has a loss of its own",
)
# Where the network leaves the logits of each head for the training step.
EACH = "experts"


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _gradient_times(x: jax.Array, factor: float) -> jax.Array:
    """`x`, whose gradient is multiplied on its way back."""
    return x


@_gradient_times.defjvp
def _(factor, primals, tangents):
    return primals[0], factor * tangents[0]


class Experts(nn.Module):
    """Heads on the same features: `logits = mean_k head_k(z)`.

    Each of K heads learns as it would alone: of a loss that is a mean over heads it gets K times
    the gradient, and the features get the gradient itself. So heads that are alike train as one.

    Attributes:
      heads: the heads, which differ in their initialization.

    Source: Wang et al., RIDE (ICLR 2021), https://arxiv.org/abs/2010.01809; there experts share the
    first stages of the backbone alone, and here all of it.
    """

    heads: tuple[nn.Module, ...]

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Features `[B, D]` to logits `[B, C]`."""
        many = len(self.heads)
        shared = _gradient_times(z, 1 / many)
        each = _gradient_times(jnp.stack([head(shared) for head in self.heads]), float(many))
        self.sow(EACH, "found", each, lambda _, new: new, lambda: None)
        return jnp.mean(each, axis=0)

    def as_dense(self, params: Any) -> tuple[jax.Array, jax.Array]:
        """The heads as one dense layer.

        Args:
          params: parameters of the heads.

        Returns:
          Kernel `[D, C]` and bias `[C]`.

        Raises:
          InputError: a head that is not linear.
        """
        parts = [head.as_dense(params[f"heads_{i}"]) for i, head in enumerate(self.heads)]
        kernel, bias = (jnp.mean(jnp.stack(part), axis=0) for part in zip(*parts, strict=True))
        return kernel, bias
