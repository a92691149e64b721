"""The convolution and the batch norm that all backbones share."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


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
