"""Classifier heads: from (whitened) features to logits.

Every head but the cosine is linear in its input: `as_dense` gives its kernel and bias, which
fold with the whitening before it into one affine map.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.errors import InputError, Option, number

Params = Any

HEAD_SCALE = Option(30.0, number(0, open_low=True), "scale of the cosine head")


def normalized(x: jax.Array, axis: int, power: float | jax.Array = 1.0) -> jax.Array:
    """`x / |x|^power` along an axis; 0 stays 0, with a finite derivative."""
    square = jnp.sum(x * x, axis=axis, keepdims=True)
    return x * jnp.maximum(square, 1e-12) ** (-power / 2)


class LinearHead(nn.Module):
    """`logits = z W + b`, features `[B, D] -> [B, C]`; W starts small, b at 0."""

    num_classes: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Features `[B, D]` to logits `[B, C]`."""
        init = nn.initializers.normal(0.01)
        return nn.Dense(self.num_classes, kernel_init=init, name="dense")(z)

    def as_dense(self, params: Params) -> tuple[jax.Array, jax.Array]:
        """Kernel `[D, C]` and bias `[C]` of the same map."""
        return params["dense"]["kernel"], params["dense"]["bias"]


class CosineHead(nn.Module):
    """`logits = s cos(z, w_c)`: features and class vectors are normalized; no bias.

    Attributes:
      num_classes: C.
      scale: `s`.

    Source: Wang et al., NormFace (ACM Multimedia 2017, https://arxiv.org/abs/1704.06369); LDAM
    (https://arxiv.org/abs/1906.07413) uses it.
    """

    num_classes: int
    scale: float = HEAD_SCALE.default

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Features `[B, D]` to logits `[B, C]`."""
        shape = (z.shape[-1], self.num_classes)
        kernel = self.param("kernel", nn.initializers.normal(1.0), shape, jnp.float32)
        kernel = normalized(kernel.astype(z.dtype), axis=0)
        return self.scale * (normalized(z, axis=1) @ kernel)

    def as_dense(self, params: Params) -> tuple[jax.Array, jax.Array]:
        """Refused: the head normalizes its input, so it is no affine map.

        Raises:
          InputError: always.
        """
        raise InputError(
            "model.head = cosine cannot be folded: it divides by the norm of its input; "
            "use the network as it is"
        )


class TauNormHead(nn.Module):
    """`logits = z W~`, `w~_c = w_c / |w_c|^tau`: class vectors of a trained linear head; no bias.

    `tau` is a variable of the head, so that a checkpoint holds it: 0 leaves W, 1 normalizes it.

    Source: Kang et al., Decoupling Representation and Classifier (ICLR 2020,
    https://arxiv.org/abs/1910.09217).
    """

    num_classes: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Features `[B, D]` to logits `[B, C]`."""
        shape = (z.shape[-1], self.num_classes)
        kernel = self.param("kernel", nn.initializers.normal(0.01), shape, jnp.float32)
        tau = self.param("tau", nn.initializers.zeros, (), jnp.float32)
        return z @ normalized(kernel, axis=0, power=tau).astype(z.dtype)

    def as_dense(self, params: Params) -> tuple[jax.Array, jax.Array]:
        """Kernel `[D, C]` and bias `[C]` of the same map."""
        kernel = normalized(params["kernel"], axis=0, power=params["tau"])
        return kernel, jnp.zeros((self.num_classes,), kernel.dtype)


class WeightScalingHead(nn.Module):
    """`logits_c = s_c (z w_c + b_c)`: a trained linear head with a learnable scale per class.

    Source: Kang et al., Decoupling Representation and Classifier (ICLR 2020,
    https://arxiv.org/abs/1910.09217), learnable weight scaling.
    """

    num_classes: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Features `[B, D]` to logits `[B, C]`."""
        init = nn.initializers.normal(0.01)
        logits = nn.Dense(self.num_classes, kernel_init=init, name="dense")(z)
        scale = self.param("scale", nn.initializers.ones, (self.num_classes,), jnp.float32)
        return logits * scale.astype(logits.dtype)[None, :]

    def as_dense(self, params: Params) -> tuple[jax.Array, jax.Array]:
        """Kernel `[D, C]` and bias `[C]` of the same map."""
        scale = params["scale"]
        return params["dense"]["kernel"] * scale[None, :], params["dense"]["bias"] * scale
