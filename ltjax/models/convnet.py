"""A small residual network for small images."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.models.initialization import Initializer
from ltjax.models.layers import FAN_OUT, Computation, Normed, branching_conv_norm, conv_norm


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut.

    Source: He et al., Deep Residual Learning (CVPR 2016, https://arxiv.org/abs/1512.03385), the
    basic block; the shortcut is a strided 1x1 convolution with batch norm where the shape changes
    (option B).
    """

    width: int
    stride: int = 1
    by: Computation = Computation()

    @nn.compact
    def __call__(self, x: Normed, *, train: bool) -> Normed:
        """`[B, H, W, C] -> [B, H / stride, W / stride, width]`."""
        width, stride, by = self.width, self.stride, self.by
        y, shortcut = branching_conv_norm(x, width, 3, stride, "1", train, by, relu=True, same=True)
        y = conv_norm(y, width, 3, 1, "2", train, by, same=True)
        if shortcut.shape != y.x.shape:
            projected = conv_norm(shortcut, width, 1, stride, "shortcut", train, by, same=True)
            shortcut = projected.value()
        return y._replace(shortcut=shortcut, relu=True)


class ConvNet(nn.Module):
    """A stem, one stage of residual blocks per width, and global average pooling.

    Attributes:
      widths: channels of each stage; every stage but the first halves the image.
      blocks: number of residual blocks per stage.
      axis_name: mapped axis over which the statistics of batch norm are averaged.
      dtype: dtype of the computation; parameters are float32.
      native: whether to use native kernels where they are available.
      kernel_init: initializer of the convolutions' kernels.
    """

    widths: tuple[int, ...] = (32, 64)
    blocks: int = 1
    axis_name: str | None = None
    dtype: Any = jnp.float32
    native: bool = False
    kernel_init: Initializer = FAN_OUT

    @property
    def features(self) -> int:
        """Channels of the output."""
        return self.widths[-1]

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images `[B, H, W, C] -> features [B, widths[-1]]`."""
        by = Computation(self.axis_name, self.dtype, self.native, self.kernel_init)
        y = conv_norm(x, self.widths[0], 3, 1, "stem", train, by, relu=True, same=True, images=True)
        for stage, width in enumerate(self.widths):
            for block in range(self.blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"stage{stage + 1}_block{block + 1}"
                y = ResidualBlock(width, stride, by, name=name)(y, train=train)
        return jnp.mean(y.value(), axis=(1, 2), dtype=jnp.float32)
