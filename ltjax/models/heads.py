"""Classifier heads: from (whitened) features to logits.

All heads except `CosineHead` are affine in their input: `as_dense` gives the kernel and the bias,
which can be folded with the whitening before the head into one affine map.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.errors import InputError, Option, number
from ltjax.models.initialization import INITIALIZATIONS, Initializer

Params = Any

HEAD_SCALE = Option(
    30.0, number(0, open_low=True), "cosine head: factor by which the cosines are scaled"
)


def normalized(x: jax.Array, axis: int, power: float | jax.Array = 1.0) -> jax.Array:
    """Divides vectors by a power of their norm, `x / |x|^power`.

    The zero vector stays 0, with a finite derivative.

    Args:
      x: any array of vectors.
      axis: axis along which the vectors lie.
      power: 1 normalizes, 0 leaves `x` as it is.

    Returns:
      The shape of `x`.

    Source: ours.
    """
    square = jnp.sum(x * x, axis=axis, keepdims=True)
    return x * jnp.maximum(square, 1e-12) ** (-power / 2)


class LinearHead(nn.Module):
    """A linear classifier, `logits = z W + b`.

    Attributes:
      num_classes: C.
      kernel_init: initializer of W; small values by default.
      bias_init: function from D, the number of features, to the initializer of b; 0 by default.

    Source: `flax.linen.Dense`.
    """

    num_classes: int
    kernel_init: Initializer = INITIALIZATIONS["fan_out"].kernel
    bias_init: Callable[[int], Initializer] = INITIALIZATIONS["fan_out"].bias

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Features `[B, D]` to logits `[B, C]`."""
        bias_init = self.bias_init(z.shape[-1])
        dense = nn.Dense(
            self.num_classes, kernel_init=self.kernel_init, bias_init=bias_init, name="dense"
        )
        return dense(z)

    def as_dense(self, params: Params) -> tuple[jax.Array, jax.Array]:
        """The head as a dense layer.

        Args:
          params: parameters of the head.

        Returns:
          Kernel `[D, C]` and bias `[C]`.
        """
        return params["dense"]["kernel"], params["dense"]["bias"]

    def of_vectors(self, vectors: jax.Array) -> Params:
        """The head whose prediction is the nearest of given class vectors.

            w_c = v_c,  b_c = -|v_c|^2 / 2,  so that  z w_c + b_c = (|z|^2 - |z - v_c|^2) / 2

        Args:
          vectors: `v`, `[C, D]`.

        Returns:
          Parameters of the head.
        """
        return {"dense": {"kernel": vectors.T, "bias": -jnp.sum(vectors**2, axis=1) / 2}}


def unit_vectors(
    key: jax.Array, shape: tuple[int, int], dtype: jax.typing.DTypeLike = jnp.float32
) -> jax.Array:
    """Initial class vectors of norm 1: uniform in `[-1, 1]`, then normalized.

    The cosine does not change with the norm, but its gradient is proportional to `1 / |w_c|`: from
    a larger norm the head would learn more slowly.

    Args:
      key: PRNG key.
      shape: `(D, C)`.
      dtype: of the result.

    Returns:
      `[D, C]`, each column of norm 1.

    Source: the `NormedLinear` of LDAM's code, https://github.com/kaidic/LDAM-DRW

    >>> w = unit_vectors(jax.random.key(0), (8, 2))
    >>> [round(float(norm), 5) for norm in jnp.linalg.norm(w, axis=0)]
    [1.0, 1.0]
    """
    return normalized(jax.random.uniform(key, shape, dtype, -1.0, 1.0), axis=0)


class CosineHead(nn.Module):
    """A cosine classifier, `logits = s cos(z, w_c)`, without bias.

    The class vectors start at norm 1; see `unit_vectors`.

    Attributes:
      num_classes: C.
      scale: `s` > 0.

    Source: Wang et al., NormFace (ACM Multimedia 2017, https://arxiv.org/abs/1704.06369); LDAM
    (https://arxiv.org/abs/1906.07413) uses it.
    """

    num_classes: int
    scale: float = HEAD_SCALE.default

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Features `[B, D]` to logits `[B, C]`."""
        shape = (z.shape[-1], self.num_classes)
        kernel = self.param("kernel", unit_vectors, shape, jnp.float32)
        kernel = normalized(kernel.astype(z.dtype), axis=0)
        return self.scale * (normalized(z, axis=1) @ kernel)

    def of_vectors(self, vectors: jax.Array) -> Params:
        """The head with given class vectors, of norm 1; see `unit_vectors`.

        Args:
          vectors: `[C, D]`.

        Returns:
          Parameters of the head.
        """
        return {"kernel": normalized(vectors, axis=1).T}

    def as_dense(self, params: Params) -> tuple[jax.Array, jax.Array]:
        """Refuses: the head normalizes its input, so it is not an affine map.

        Args:
          params: parameters of the head.

        Returns:
          Nothing.

        Raises:
          InputError: always.
        """
        raise InputError(
            "model.head = cosine cannot be folded: it divides by the norm of its input; "
            "use the network as it is"
        )


class TauNormHead(nn.Module):
    """Tau-normalized classifier: `logits = z W~`, `w~_c = w_c / |w_c|^tau`; no bias.

    `W` is that of a trained linear head. `tau` is a parameter of the head, so that it is stored in
    checkpoints: 0 leaves `W` as it is, 1 normalizes it.

    Attributes:
      num_classes: C.

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
        """The head as a dense layer.

        Args:
          params: parameters of the head.

        Returns:
          Kernel `[D, C]` and bias `[C]`, which is 0.
        """
        kernel = normalized(params["kernel"], axis=0, power=params["tau"])
        return kernel, jnp.zeros((self.num_classes,), kernel.dtype)


class WeightScalingHead(nn.Module):
    """Learnable weight scaling (LWS): `logits_c = s_c (z w_c + b_c)`.

    `w` and `b` are those of a trained linear head; `s` is a learnable scale per class.

    Attributes:
      num_classes: C.

    Source: Kang et al., Decoupling Representation and Classifier (ICLR 2020,
    https://arxiv.org/abs/1910.09217).
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
        """The head as a dense layer.

        Args:
          params: parameters of the head.

        Returns:
          Kernel `[D, C]` and bias `[C]`.
        """
        scale = params["scale"]
        return params["dense"]["kernel"] * scale[None, :], params["dense"]["bias"] * scale


class MarginCalibrationHead(nn.Module):
    """Margin calibration (MARC): `logits_c = s_c (z w_c + b_c) + m_c |w_c|`.

    `w` and `b` are those of a trained linear head; the scale `s` and the margin `m` of every class
    are learned, and start at 1 and 0, where the head is the trained one.

    Attributes:
      num_classes: C.

    Source: Wang et al., Margin Calibration for Long-Tailed Visual Recognition (ACML 2022,
    https://arxiv.org/abs/2112.07225), as in https://github.com/microsoft/robustlearn/tree/main/marc.
    """

    num_classes: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """Features `[B, D]` to logits `[B, C]`."""
        shape = (z.shape[-1], self.num_classes)
        dense = {"kernel": nn.initializers.normal(0.01), "bias": nn.initializers.zeros}
        params = {
            "dense": self.param("dense", _each(dense), {"kernel": shape, "bias": shape[1:]}),
            "calibration": self.param(
                "calibration",
                _each({"scale": nn.initializers.ones, "margin": nn.initializers.zeros}),
                {"scale": shape[1:], "margin": shape[1:]},
            ),
        }
        kernel, bias = self.as_dense(params)
        return z @ kernel.astype(z.dtype) + bias.astype(z.dtype)[None, :]

    def as_dense(self, params: Params) -> tuple[jax.Array, jax.Array]:
        """The head as a dense layer.

        Args:
          params: parameters of the head.

        Returns:
          Kernel `[D, C]` and bias `[C]`.
        """
        dense, learned = params["dense"], params["calibration"]
        norms = jnp.sqrt(jnp.maximum(jnp.sum(dense["kernel"] ** 2, axis=0), 1e-24))
        bias = dense["bias"] * learned["scale"] + learned["margin"] * norms
        return dense["kernel"] * learned["scale"][None, :], bias


def _each(initializers: dict[str, Initializer]) -> Callable[..., Params]:
    """An initializer of several parameters at once, which stand in one dictionary."""

    def init(key: jax.Array, shapes: dict[str, tuple[int, ...]]) -> Params:
        return {
            name: make(jax.random.fold_in(key, number), shapes[name], jnp.float32)
            for number, (name, make) in enumerate(initializers.items())
        }

    return init
