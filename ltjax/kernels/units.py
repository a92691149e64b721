"""Convolutions fused with the batch norms around them, as differentiable JAX functions.

A unit is a 3 x 3 convolution, what comes before it and what is measured after it:

    z = conv(u, k),    u = relu(a x + b)  or  x,        s = (sum z, sum z^2) per channel

The sums are outputs, so a batch norm behind a unit is plain JAX on two vectors, and one that is
reduced over devices is a `pmean` between two units. `norm_affine` turns the sums into the `(a, b)`
of the next unit. The gradient of `s` enters a unit's backward pass as `k1 z + k2`, so the gradient
of the batch norm's statistics costs no pass over memory of its own.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.kernels.build import load

FLOAT = jnp.float32


def _none() -> jax.Array:
    """Stands for an array that is not given."""
    return jnp.zeros((1,), FLOAT)


def supports(
    in_channels: int, out_channels: int, dtype: jax.typing.DTypeLike, *, stride: int = 1
) -> bool:
    """Whether a unit can be computed here, and is faster than XLA's operators.

    Args:
      in_channels: those of images (1 or 3), or a multiple of 16.
      out_channels: a multiple of 16.
      dtype: float32 alone.
      stride: of the convolution.

    Returns:
      False also where there is no library (`ltjax.kernels.build.load` says why), and for kernels
      of more weights than a core's cache holds, where XLA's are faster.
    """
    widths = out_channels % 16 == 0 and (in_channels % 16 == 0 or in_channels in (1, 3))
    fits = in_channels * out_channels <= (256 if stride == 1 else 128) ** 2
    on_cpu = jax.default_backend() == "cpu"
    return bool(widths and fits and dtype == FLOAT and on_cpu and load().path is not None)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def unit(
    x: jax.Array,
    affine: jax.Array | None,
    kernel: jax.Array,
    stride: int = 1,
    input_gradient: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """A 3 x 3 convolution with the norm and ReLU before it and the statistics after it.

    Args:
      x: float32 `[B, H, W, C]`.
      affine: `(a, b)`, float32 `[2, C]`, of `relu(a x + b)`; None convolves `x` itself.
      kernel: float32 `[3, 3, C, O]`.
      stride: both ways; the border is one pixel of zeros.
      input_gradient: False where no gradient of `x` is needed, as for images.

    Returns:
      `z` `[B, H', W', O]` and the sums of `z` and `z^2`, `[2, O]`.

    Source: Winograd's F(2 x 2, 3 x 3) for stride 1, Lavin and Gray
    (https://arxiv.org/abs/1509.09308); the fusion is ours.
    """
    del input_gradient
    batch, height, width, _ = x.shape
    out = (batch, (height - 1) // stride + 1, (width - 1) // stride + 1, kernel.shape[3])
    shapes = jax.ShapeDtypeStruct(out, FLOAT), jax.ShapeDtypeStruct((2, out[3]), FLOAT)
    call = jax.ffi.ffi_call("ltjax_unit_forward", shapes)
    z, sums = call(x, kernel, _none() if affine is None else affine, stride=np.int64(stride))
    return z, sums


def _unit_forward(x, affine, kernel, stride, input_gradient):
    z, sums = unit(x, affine, kernel, stride, input_gradient)
    return (z, sums), (x, affine, kernel, z)


def _unit_backward(stride, input_gradient, residuals, cotangents):
    x, affine, kernel, z = residuals
    dz, dsums = cotangents
    ones = jnp.ones_like(dsums[0])
    # d(sum z) adds ds0 to every pixel's gradient, d(sum z^2) adds 2 z ds1.
    coefficients = jnp.stack([ones, 2 * dsums[1], dsums[0]])
    dx, sums, dk = gradients(
        dz, z, coefficients, x, affine, kernel, stride=stride, input_gradient=input_gradient
    )
    if not input_gradient:
        dx = jnp.zeros_like(x)
    return dx, None if affine is None else jnp.stack([sums[1], sums[0]]), dk


unit.defvjp(_unit_forward, _unit_backward)


def gradients(
    dy: jax.Array,
    z: jax.Array,
    coefficients: jax.Array,
    x: jax.Array,
    affine: jax.Array | None,
    kernel: jax.Array,
    *,
    stride: int,
    mask: jax.Array | None = None,
    shortcut: tuple[jax.Array, jax.Array] | None = None,
    input_gradient: bool = True,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The backward pass of `unit`, with the gradient in front of it computed on the way.

        g = k0 dy [mask > 0] + k1 z + k2

    Args:
      dy: gradient that arrives, `[B, H', W', O]`.
      z: the unit's output.
      coefficients: `(k0, k1, k2)`, `[3, O]`.
      x: the unit's input.
      affine: as of `unit`.
      kernel: as of `unit`.
      stride: as of `unit`.
      mask: where it is positive, `dy` passes; None is everywhere.
      shortcut: `(dy, mask)` of a shortcut of the same shape as `x`; added to its gradient.
      input_gradient: False where no gradient of `x` is needed; it then has one element.

    Returns:
      The gradient of `x`; the sums over pixels of the gradient `du` of `a x + b` and of
      `du x`, `[2, C]` (of no meaning without `affine`); the gradient of the kernel.
    """
    around = (_none(), _none()) if shortcut is None else shortcut
    shapes = (
        jax.ShapeDtypeStruct(x.shape if input_gradient else (1,), FLOAT),
        jax.ShapeDtypeStruct((2, x.shape[3]), FLOAT),
        jax.ShapeDtypeStruct(kernel.shape, FLOAT),
    )
    dx, sums, dk = jax.ffi.ffi_call("ltjax_unit_backward", shapes)(
        dy,
        _none() if mask is None else mask,
        z,
        coefficients,
        x,
        _none() if affine is None else affine,
        kernel,
        *around,
        stride=np.int64(stride),
    )
    return dx, sums, dk


def masked_sums(dy: jax.Array, mask: jax.Array, z: jax.Array) -> jax.Array:
    """Sums over pixels of `g` and `g z`, `g = dy [mask > 0]`, `[2, C]`."""
    shape = jax.ShapeDtypeStruct((2, z.shape[3]), FLOAT)
    return jax.ffi.ffi_call("ltjax_norm_reduce", shape)(dy, mask, z)


class Moments(NamedTuple):
    """Mean and (biased) variance per channel, `[C]`."""

    mean: jax.Array
    variance: jax.Array


def moments(sums: jax.Array, count: int, axis_name: str | None = None) -> Moments:
    """Batch statistics from `unit`'s sums over `count` pixels; the mean over a mapped axis."""
    means = sums / count
    if axis_name is not None:
        means = jax.lax.pmean(means, axis_name)
    return Moments(means[0], jnp.maximum(means[1] - means[0] * means[0], 0.0))


def norm_affine(
    found: Moments, scale: jax.Array, bias: jax.Array, *, epsilon: float = 1e-5
) -> jax.Array:
    """A batch norm as `(a, b)` of `a x + b`, `[2, C]`."""
    a = scale * jax.lax.rsqrt(found.variance + epsilon)
    return jnp.stack([a, bias - found.mean * a])
