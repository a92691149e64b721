"""XLA's convolution, faster on CPU: the kernel's gradient, and depthwise kernels."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Images per piece of a kernel's gradient on CPU, as measured by experiments/train_speed.
CPU_PIECE = 16


def convolution(x: jax.Array, kernel: jax.Array, *args: Any, **options: Any) -> jax.Array:
    """`jax.lax.conv_general_dilated` whose kernel's gradient is taken piece by piece on CPU.

    The gradient of the kernel is a convolution whose window is the whole image and whose
    channels are the batch; XLA's CPU runs it on one core and out of cache. The gradients of
    pieces of 16 images are about three times faster; their sum is the same up to rounding. The
    gradient of a kernel of one pixel is a matrix product of the input and the gradient behind it,
    four times faster than XLA's convolution. Depthwise kernels are sums of shifted products there,
    10 to 30 times faster than XLA's.

    Args:
      x: `[B, H, W, C]`.
      kernel: `[h, w, C / groups, O]`.
      *args: further arguments of `jax.lax.conv_general_dilated`.
      **options: its keyword arguments.

    Returns:
      `[B, H', W', O]`.
    """

    def whole(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(x, kernel, *args, **options)

    def kernel_gradient(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> jax.Array:
        return jax.vjp(lambda k: whole(x, k), kernel)[1](dy)[0]

    def in_pieces(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> jax.Array:
        parts = (jnp.split(a, len(a) // CPU_PIECE) for a in (x, dy))
        pieces = [kernel_gradient(a, kernel, b) for a, b in zip(*parts, strict=True)]
        return functools.reduce(jnp.add, pieces)

    def as_product(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> jax.Array:
        down, across = args[0] if args else options["window_strides"]
        taken = x[:, ::down, ::across]
        return jnp.einsum("bhwc,bhwo->co", taken, dy)[None, None]

    def backward(residuals, dy):
        x, kernel = residuals
        dx = jax.vjp(lambda a: whole(a, kernel), x)[1](dy)[0]
        cpu = as_product if one_pixel else in_pieces
        dk = jax.lax.platform_dependent(x, kernel, dy, cpu=cpu, default=kernel_gradient)
        return dx, dk

    if kernel.shape[2] == 1 and 1 < x.shape[-1] == kernel.shape[3] and len(args) == 2:
        cpu = functools.partial(_depthwise, strides=args[0], padding=args[1])
        return jax.lax.platform_dependent(x, kernel, cpu=cpu, default=whole)
    if not isinstance(x.shape[0], int):  # any batch: an exported network, which has no gradient
        return whole(x, kernel)
    one_pixel = kernel.shape[:2] == (1, 1) and kernel.shape[2] == x.shape[-1]
    # Small batches, and small products, fit the cache as they are.
    in_cache = kernel.size < 64 * 64 if one_pixel else x.size // x.shape[-1] < 4096
    if in_cache or (len(x) % CPU_PIECE and not one_pixel):
        return whole(x, kernel)
    pieced = jax.custom_vjp(whole)
    pieced.defvjp(lambda x, kernel: (whole(x, kernel), (x, kernel)), backward)
    return pieced(x, kernel)


def _depthwise(
    x: jax.Array, kernel: jax.Array, *, strides: Sequence[int], padding: str | Sequence[Any]
) -> jax.Array:
    """A convolution of each channel with its own kernel `[h, w, 1, C]`, shift by shift."""
    sides, size = x.shape[1:3], kernel.shape[:2]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(sides, size, strides, padding)
    padded = jnp.pad(x.astype(jnp.float32), [(0, 0), *padding, (0, 0)])
    last = [(p - k) // s * s + 1 for p, k, s in zip(padded.shape[1:3], size, strides, strict=True)]
    total = jnp.zeros((), jnp.float32)
    for i, j in np.ndindex(*size):
        shifted = padded[:, i : i + last[0] : strides[0], j : j + last[1] : strides[1]]
        total = total + shifted * kernel[i, j].astype(jnp.float32)[None, None]
    return total.astype(x.dtype)
