"""Convolutions fused with the batch norms around them, as differentiable JAX functions.

A unit is a convolution, what comes before it and what is measured after it:

    z = conv(u, k),    s = (sum z, sum z^2) per channel,
    u = x  or  relu(a x + b)  or  relu(a x + b + shortcut)

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

FLOAT, HALF = jnp.float32, jnp.bfloat16


def _none() -> jax.Array:
    """Stands for an array that is not given."""
    return jnp.zeros((1,), FLOAT)


def supports(in_channels: int, out_channels: int, dtype: jax.typing.DTypeLike) -> bool:
    """Whether a unit can be computed here.

    Args:
      in_channels: those of images (1 or 3), or a multiple of 16.
      out_channels: a multiple of 16.
      dtype: in which activations and their gradients are stored: float32, or bfloat16 on CPUs
        with instructions for it (AMX). Kernels, and sums, are float32.

    Returns:
      False also where there is no library (`ltjax.kernels.build.load` says why).
    """
    widths = out_channels % 16 == 0 and (in_channels % 16 == 0 or in_channels in (1, 3))
    if not widths or dtype not in (FLOAT, HALF) or jax.default_backend() != "cpu":
        return False
    built = load()
    return built.path is not None and (dtype == FLOAT or built.tiles)


def unit(
    x: jax.Array,
    affine: jax.Array | None,
    kernel: jax.Array,
    stride: int = 1,
    input_gradient: bool = True,
    *,
    same: bool = False,
    dtype: jax.typing.DTypeLike = FLOAT,
) -> tuple[jax.Array, jax.Array]:
    """A convolution with the norm and ReLU before it and the statistics after it.

    Args:
      x: `[B, H, W, C]`; rounded to `dtype` where it has not 1 or 3 channels.
      affine: `(a, b)`, float32 `[2, C]`, of `relu(a x + b)`; None convolves `x` itself.
      kernel: float32 `[size, size, C, O]`, of odd size.
      stride: both ways; the border of zeros is half a kernel wide.
      same: whether to pad like XLA's SAME, which may put less zeros before a side than after it.
      input_gradient: False where no gradient of `x` is needed, as for images.
      dtype: of `x`, `z` and their gradients, see `supports`. bfloat16 also rounds the factors of
        products where a kernel of 3 x 3 has 16 channels or more before it, a border on all sides,
        and a stride of 1 or 2.

    Returns:
      `z` `[B, H', W', O]` in `dtype`, and the sums of `z` and `z^2`, float32 `[2, O]`.

    Source: Winograd's F(2 x 2, 3 x 3) for kernels of that size and stride 1, Lavin and Gray
    (https://arxiv.org/abs/1509.09308); the fusion is ours.
    """
    kind = _Kind(stride, same, input_gradient, dtype=dtype)
    z, sums, _ = _unit(_stored(x, dtype), affine, None, kernel, kind)
    return z, sums


def branching_unit(
    x: jax.Array,
    affine: jax.Array,
    shortcut: jax.Array | None,
    kernel: jax.Array,
    stride: int = 1,
    *,
    same: bool = False,
    dtype: jax.typing.DTypeLike = FLOAT,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`unit` at the start of a residual block, whose input goes two ways and ends the block before.

    Args:
      x: as of `unit`.
      affine: as of `unit`.
      shortcut: `[B, H, W, C]`, of the block before; None where there is none.
      kernel: as of `unit`.
      stride: as of `unit`.
      same: as of `unit`.
      dtype: as of `unit`.

    Returns:
      `z` and its sums as of `unit`, and the convolution's input `relu(a x + b + shortcut)`.

    Source: ours.
    """
    kind = _Kind(stride, same, keep=True, joined=shortcut is not None, dtype=dtype)
    beside = None if shortcut is None else _stored(shortcut, dtype)
    return _unit(_stored(x, dtype), affine, beside, kernel, kind)


def _stored(x: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """An activation in a dtype; images are float32."""
    return x.astype(FLOAT if x.shape[-1] in (1, 3) else dtype)


class _Kind(NamedTuple):
    """What is static about a unit.

    Attributes:
      stride: of the convolution.
      same: whether it is padded like XLA's SAME.
      input_gradient: whether there is one.
      keep: whether the convolution's input is an output, too.
      joined: whether a shortcut is added to it.
      dtype: of activations.
    """

    stride: int
    same: bool = False
    input_gradient: bool = True
    keep: bool = False
    joined: bool = False
    dtype: jax.typing.DTypeLike = FLOAT


def _call(kernel: jax.Array, kind: _Kind) -> tuple[str, dict[str, np.int64 | bool]]:
    """The native calls for a kernel, `unit` or `product`, and their attributes."""
    size, _, width, out = kernel.shape
    if kind.dtype == HALF:
        fits = kind.stride == 1 or (kind.stride == 2 and not kind.same)
    else:  # larger kernels, transformed by Winograd's algorithm, do not fit a core's cache
        fits = kind.stride == 1 and width * out <= 256**2
    if size == 3 and width % 16 == 0 and fits:
        return "unit", {"stride": np.int64(kind.stride)}
    return "product", {"stride": np.int64(kind.stride), "same": kind.same}


def _shape(*shape: int, dtype: jax.typing.DTypeLike = FLOAT) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _unit(
    x: jax.Array,
    affine: jax.Array | None,
    shortcut: jax.Array | None,
    kernel: jax.Array,
    kind: _Kind,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    batch, height, width, _ = x.shape
    down, across = ((side - 1) // kind.stride + 1 for side in (height, width))
    out = kernel.shape[3]
    shapes = (
        _shape(batch, down, across, out, dtype=kind.dtype),
        _shape(2, out),
        _shape(*(x.shape if kind.keep else (1,)), dtype=x.dtype),
    )
    name, attributes = _call(kernel, kind)
    given = (_none() if a is None else a for a in (affine, shortcut))
    call = jax.ffi.ffi_call(f"ltjax_{name}_forward", shapes)
    z, sums, kept = call(x, *given, kernel, **attributes)
    return z, sums, kept


def _unit_forward(x, affine, shortcut, kernel, kind):
    z, sums, kept = _unit(x, affine, shortcut, kernel, kind)
    return (z, sums, kept), (x, affine, kernel, z, kept)


def _unit_backward(kind, residuals, cotangents):
    x, affine, kernel, z, kept = residuals
    dz, dsums, dkept = cotangents
    # d(sum z^2) adds 2 z ds1 to every pixel's gradient, d(sum z) adds ds0.
    coefficients = jnp.stack([2 * dsums[1], dsums[0]])
    shapes = (
        _shape(*(x.shape if kind.input_gradient else (1,)), dtype=x.dtype),
        _shape(2, x.shape[3]),
        _shape(*kernel.shape),
        _shape(*(x.shape if kind.joined else (1,)), dtype=x.dtype),
    )
    name, attributes = _call(kernel, kind)
    # The gradients of an image, or of a pixel, are written when those that arrive have been read.
    in_place = name == "unit" or (len(kernel) == 1 and kind.stride == 1)
    aliases = {0: 0} if in_place and kind.input_gradient and dz.shape == x.shape else {}
    aliases |= {7: 3} if kind.joined else {}
    call = jax.ffi.ffi_call(f"ltjax_{name}_backward", shapes, input_output_aliases=aliases)
    given = dz, z, coefficients, x, _none() if affine is None else affine, kernel, kept, dkept
    dx, sums, dk, dshortcut = call(*given, **attributes)
    if not kind.input_gradient:
        dx = jnp.zeros_like(x)
    daffine = None if affine is None else jnp.stack([sums[1], sums[0]])
    return dx, daffine, dshortcut if kind.joined else None, dk


_unit.defvjp(_unit_forward, _unit_backward)


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
