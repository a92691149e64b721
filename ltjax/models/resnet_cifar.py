"""ResNets for images of 32 pixels, as the field's CIFAR-LT experiments run them."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.errors import require
from ltjax.models.layers import conv, norm


class CifarBlock(nn.Module):
    """Two 3x3 convolutions with batch norm; the shortcut has no parameters (option A).

    Where the shape changes, the shortcut takes every second pixel and pads new channels with
    zeros, half before and half after.
    """

    width: int
    stride: int
    axis_name: str | None
    dtype: Any
    zero_residual: bool

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """`[B, H, W, C] -> [B, H / stride, W / stride, width]`."""
        y = conv(self.width, 3, self.stride, "conv1", self.dtype)(x)
        y = nn.relu(norm(y, train, self.axis_name, "norm1", self.dtype))
        y = conv(self.width, 3, 1, "conv2", self.dtype)(y)
        y = norm(y, train, self.axis_name, "norm2", self.dtype, zero_scale=self.zero_residual)
        new = self.width - x.shape[-1]
        if self.stride > 1 or new:
            x = x[:, :: self.stride, :: self.stride]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)))
        return nn.relu(x + y)


class ResNetCifar(nn.Module):
    """A 3x3 stem and three stages of basic blocks of 16, 32 and 64 channels; average pooling.

    Attributes:
      depth: 6 n + 2 layers, n blocks a stage: 8, 20, 32, 44, 56 or 110.
      axis_name: mapped axis over which batch-norm statistics are reduced.
      dtype: of the computation; parameters are float32.
      zero_residual: start every block as the identity.

    Source: He et al., Deep Residual Learning (CVPR 2016, https://arxiv.org/abs/1512.03385),
    section 4.2.
    """

    depth: int = 32
    axis_name: str | None = None
    dtype: Any = jnp.float32
    zero_residual: bool = False

    @property
    def features(self) -> int:
        """Channels of the output."""
        return 64

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images `[B, H, W, C] -> features [B, 64]`."""
        require(self.depth % 6 == 2 and self.depth >= 8, "depth", self.depth, "6 n + 2")
        x = conv(16, 3, 1, "stem", self.dtype)(x)
        x = nn.relu(norm(x, train, self.axis_name, "stem_norm", self.dtype))
        for stage, width in enumerate((16, 32, 64)):
            for block in range((self.depth - 2) // 6):
                stride = 2 if stage > 0 and block == 0 else 1
                x = CifarBlock(
                    width,
                    stride,
                    self.axis_name,
                    self.dtype,
                    self.zero_residual,
                    name=f"stage{stage + 1}_block{block + 1}",
                )(x, train=train)
        return jnp.mean(x, axis=(1, 2))
