"""The convolution and the batch norm that all backbones share."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# Images in one piece of a kernel's gradient on CPU; measured by experiments/train_speed.
CPU_PIECE = 16


def convolution(x: jax.Array, kernel: jax.Array, *args: Any, **options: Any) -> jax.Array:
    """`jax.lax.conv_general_dilated` whose kernel's gradient is taken piece by piece on CPU.

    The gradient of the kernel is a convolution whose window is the whole image and whose
    channels are the batch; XLA's CPU runs it on one core and out of cache. The gradients of
    pieces of 16 images are about three times faster; their sum is the same up to rounding.

    Args:
      x: `[B, H, W, C]`.
      kernel: `[h, w, C / groups, O]`.
      *args: as `jax.lax.conv_general_dilated` takes them.
      **options: likewise.

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

    def backward(residuals, dy):
        x, kernel = residuals
        dx = jax.vjp(lambda a: whole(a, kernel), x)[1](dy)[0]
        dk = jax.lax.platform_dependent(x, kernel, dy, cpu=in_pieces, default=kernel_gradient)
        return dx, dk

    # A window of one pixel is a matrix product, and small batches fit the cache as they are.
    # An exported network has a free batch size, and no gradient.
    free = not isinstance(x.shape[0], int)
    small = free or kernel.shape[:2] == (1, 1) or x.size // x.shape[-1] < 4096
    if small or len(x) % CPU_PIECE:
        return whole(x, kernel)
    pieced = jax.custom_vjp(whole)
    pieced.defvjp(lambda x, kernel: (whole(x, kernel), (x, kernel)), backward)
    return pieced(x, kernel)


def conv(
    width: int,
    size: int,
    stride: int,
    name: str,
    dtype: Any,
    *,
    groups: int = 1,
    same: bool = False,
) -> nn.Conv:
    """A convolution without bias, started as He et al. (2015) say.

    Args:
      width: channels of the output.
      size: of the square kernel, odd.
      stride: both ways.
      name: of the parameters.
      dtype: of the computation; parameters are float32.
      groups: of channels that are convolved apart.
      same: pad as XLA's SAME, where a strided convolution pads one side more than the
        other; else both sides alike, as the networks that the field publishes.
    """
    return nn.Conv(
        width,
        (size, size),
        (stride, stride),
        padding="SAME" if same else [(size // 2, size // 2)] * 2,
        use_bias=False,
        feature_group_count=groups,
        kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
        dtype=dtype,
        name=name,
        conv_general_dilated=convolution,
    )


def norm(
    x: jax.Array,
    train: bool,
    axis_name: str | None,
    name: str,
    dtype: Any,
    *,
    zero_scale: bool = False,
) -> jax.Array:
    """Batch norm in float32; to be called inside a compact module.

    Args:
      x: `[B, H, W, C]`.
      train: use and update the batch's statistics.
      axis_name: mapped axis over which batches are spread.
      name: of the parameters.
      dtype: of the output.
      zero_scale: start the scale at 0, so that a residual block starts as the identity.

    Returns:
      `[B, H, W, C]`.
    """
    layer = nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        axis_name=axis_name,
        scale_init=nn.initializers.zeros if zero_scale else nn.initializers.ones,
        name=name,
    )
    return layer(x.astype(jnp.float32)).astype(dtype)


DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
