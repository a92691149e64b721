"""MaxNorm: a linear classifier whose class vectors stay within a ball."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.errors import Option, number

MAX_NORM = Option(
    0.1,
    number(0, 1),
    "max_norm: radius of the class vectors, from the smallest (0) to the largest (1) norm of stage "
    "one's",
)


def radius_of(kernel: jax.Array, share: float = MAX_NORM.default) -> jax.Array:
    """A radius between the smallest and the largest norm of class vectors.

        min_c |w_c| + share (max_c |w_c| - min_c |w_c|)

    Args:
      kernel: class vectors `w`, `[D, C]`.
      share: in [0, 1].

    Returns:
      `[]`.

    Source: https://github.com/ShadeAlsha/LTR-weight-balancing, where the share is 0.1.

    >>> float(radius_of(jnp.diag(jnp.array([2.0, 4.0, 12.0])), 0.5))
    7.0
    """
    norms = jnp.linalg.norm(kernel, axis=0)
    low, high = jnp.min(norms), jnp.max(norms)
    return low + share * (high - low)


def within(kernel: jax.Array, radius: jax.Array) -> jax.Array:
    """The nearest class vectors whose norm is at most the radius.

        w_c min(1, radius / |w_c|)

    Args:
      kernel: class vectors `w`, `[D, C]`.
      radius: `[]`, or one for each class, `[C]`.

    Returns:
      `[D, C]`; vectors that are short enough are returned to the bit.

    Source: Alshammari et al., Long-Tailed Recognition via Weight Balancing (CVPR 2022),
    https://arxiv.org/abs/2203.14197, its projected gradient descent.

    >>> within(jnp.array([[3.0, 0.0], [4.0, 1.0]]), jnp.array(2.5)).tolist()
    [[1.5, 0.0], [2.0, 1.0]]
    """
    norms = jnp.linalg.norm(kernel, axis=0)
    bound = jnp.broadcast_to(radius, norms.shape)
    scale = jnp.where(norms > bound, bound / jnp.maximum(norms, 1e-30), 1)
    return kernel * scale[None, :]


class MaxNormHead(nn.Module):
    """A linear classifier, `logits = z W + b`, and the radius within which training keeps `w_c`.

    `W`, `b` start as those of a trained linear head. The radius is a parameter of the head that is
    not trained, so that it is stored in checkpoints.

    Attributes:
      num_classes: C.

    Source: see `within`.
    """

    num_classes: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Features `[B, D]` to logits `[B, C]`."""
        self.param("radius", nn.initializers.ones, (), jnp.float32)
        return nn.Dense(self.num_classes, name="dense")(z)

    def as_dense(self, params: Any) -> tuple[jax.Array, jax.Array]:
        """The head as a dense layer.

        Args:
          params: parameters of the head.

        Returns:
          Kernel `[D, C]` and bias `[C]`.
        """
        return params["dense"]["kernel"], params["dense"]["bias"]


def projected(learned: Any, fixed: Any) -> Any:
    """The trained parameters of a network with `MaxNormHead`, its class vectors within their ball.

    Args:
      learned: parameters that are trained, `head/dense` among them.
      fixed: the others, `head/radius` among them.

    Returns:
      The former.
    """
    dense = learned["head"]["dense"]
    kernel = within(dense["kernel"], fixed["head"]["radius"])
    return {**learned, "head": {**learned["head"], "dense": {**dense, "kernel": kernel}}}
