"""ResNets for images of 32 pixels, as CIFAR-LT experiments use them."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.errors import require
from ltjax.models.depth import STOCHASTIC_DEPTH, branch_scales, residual
from ltjax.models.initialization import Initializer
from ltjax.models.layers import FAN_OUT, Computation, Normed, branching_conv_norm, conv_norm


class CifarBlock(nn.Module):
    """Two 3x3 convolutions with batch norm; the shortcut has no parameters (option A).

    Where the shape changes, the shortcut takes every second pixel and pads new channels with
    zeros, half before and half after.
    """

    width: int
    stride: int
    by: Computation
    zero_residual: bool

    @nn.compact
    def __call__(self, x: Normed, *, train: bool, scale: jax.Array | None = None) -> Normed:
        """`[B, H, W, C] -> [B, H / stride, W / stride, width]`."""
        y, shortcut = branching_conv_norm(
            x, self.width, 3, self.stride, "1", train, self.by, relu=True
        )
        y = conv_norm(y, self.width, 3, 1, "2", train, self.by, zero_scale=self.zero_residual)
        new = self.width - shortcut.shape[-1]
        if self.stride > 1 or new:
            shortcut = shortcut[:, :: self.stride, :: self.stride]
            shortcut = jnp.pad(shortcut, ((0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)))
        return residual(y, shortcut, scale)


class ResNetCifar(nn.Module):
    """A 3x3 stem, three stages of basic blocks of 16, 32 and 64 channels, and average pooling.

    Attributes:
      depth: number of layers, 6 n + 2 with n blocks per stage: 8, 20, 32, 44, 56 or 110.
      axis_name: mapped axis over which the statistics of batch norm are averaged.
      dtype: dtype of the computation; parameters are float32.
      zero_residual: whether every block is initialized as the identity.
      native: whether to use native kernels where they are available.
      kernel_init: initializer of the convolutions' kernels.
      stochastic_depth: probability of dropping the last residual branch in training; see
        `ltjax.models.depth`.

    Source: He et al., Deep Residual Learning (CVPR 2016, https://arxiv.org/abs/1512.03385),
    section 4.2.
    """

    depth: int = 32
    axis_name: str | None = None
    dtype: Any = jnp.float32
    zero_residual: bool = False
    native: bool = False
    kernel_init: Initializer = FAN_OUT
    stochastic_depth: float = STOCHASTIC_DEPTH.default

    @property
    def features(self) -> int:
        """Channels of the output."""
        return 64

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images `[B, H, W, C] -> features [B, 64]`."""
        require(self.depth % 6 == 2 and self.depth >= 8, "depth", self.depth, "6 n + 2")
        by = Computation(self.axis_name, self.dtype, self.native, self.kernel_init)
        y = conv_norm(x, 16, 3, 1, "stem", train, by, relu=True, images=True)
        each = (self.depth - 2) // 6
        scales = branch_scales(self, self.stochastic_depth, 3 * each, train=train)
        for stage, width in enumerate((16, 32, 64)):
            for block in range(each):
                (scale,) = scales[stage * each + block]
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"stage{stage + 1}_block{block + 1}"
                layer = CifarBlock(width, stride, by, self.zero_residual, name=name)
                y = layer(y, train=train, scale=scale)
        return jnp.mean(y.value(), axis=(1, 2), dtype=jnp.float32)
