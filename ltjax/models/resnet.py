"""ResNets and ResNeXts for images of 224 pixels, as ImageNet-LT experiments use them."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.models.depth import STOCHASTIC_DEPTH, branch_scales, residual
from ltjax.models.initialization import Initializer
from ltjax.models.layers import (
    FAN_OUT,
    Computation,
    Normed,
    branching_conv_norm,
    conv_norm,
    max_pool,
)


class Shape(NamedTuple):
    """The shape of a ResNet or ResNeXt.

    Attributes:
      blocks: number of blocks of each stage.
      bottleneck: whether blocks are bottlenecks or basic.
      groups: number of groups of the 3x3 convolutions.
      group_width: channels per group in the first stage.
    """

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    groups: int = 1
    group_width: int = 64


class ImageNetBlock(nn.Module):
    """A basic block (3x3, 3x3) or a bottleneck (1x1, 3x3, 1x1 of four times the width).

    The shortcut is a strided 1x1 convolution with batch norm where the shape changes; a
    bottleneck's stride is in its 3x3 convolution ("v1.5"), as in common libraries.
    """

    width: int
    stride: int
    shape: Shape
    by: Computation
    zero_residual: bool

    @nn.compact
    def __call__(self, x: Normed, *, train: bool, scale: jax.Array | None = None) -> Normed:
        """`[B, H, W, C] -> [B, H / stride, W / stride, width or 4 width]`."""
        width, stride, shape, by = self.width, self.stride, self.shape, self.by
        last: Any = {"zero_scale": self.zero_residual}
        if shape.bottleneck:
            inner = width * shape.group_width // 64 * shape.groups
            y, shortcut = branching_conv_norm(x, inner, 1, 1, "1", train, by, relu=True)
            y = conv_norm(y, inner, 3, stride, "2", train, by, relu=True, groups=shape.groups)
            y = conv_norm(y, 4 * width, 1, 1, "3", train, by, **last)
        else:
            y, shortcut = branching_conv_norm(x, width, 3, stride, "1", train, by, relu=True)
            y = conv_norm(y, width, 3, 1, "2", train, by, **last)
        if shortcut.shape != y.x.shape:
            projected = conv_norm(shortcut, y.x.shape[-1], 1, stride, "shortcut", train, by)
            shortcut = projected.value()
        return residual(y, shortcut, scale)


class ResNet(nn.Module):
    """A 7x7 stem with max pooling, four stages of widths 64 to 512, and average pooling.

    Attributes:
      shape: blocks of the stages and their kind.
      axis_name: mapped axis over which the statistics of batch norm are averaged.
      dtype: dtype of the computation; parameters are float32.
      zero_residual: whether every block is initialized as the identity.
      native: whether to use native kernels where they are available.
      kernel_init: initializer of the convolutions' kernels.
      stochastic_depth: probability of dropping the last residual branch in training; see
        `ltjax.models.depth`.

    Source: He et al., Deep Residual Learning (CVPR 2016, https://arxiv.org/abs/1512.03385); Xie et
    al., Aggregated Residual Transformations (CVPR 2017, https://arxiv.org/abs/1611.05431).
    """

    shape: Shape
    axis_name: str | None = None
    dtype: Any = jnp.float32
    zero_residual: bool = False
    native: bool = False
    kernel_init: Initializer = FAN_OUT
    stochastic_depth: float = STOCHASTIC_DEPTH.default

    @property
    def features(self) -> int:
        """Channels of the output."""
        return 2048 if self.shape.bottleneck else 512

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images `[B, H, W, C] -> features [B, 512 or 2048]`."""
        by = Computation(self.axis_name, self.dtype, self.native, self.kernel_init)
        y = max_pool(conv_norm(x, 64, 7, 2, "stem", train, by, relu=True, images=True))
        scales = iter(
            branch_scales(self, self.stochastic_depth, sum(self.shape.blocks), train=train)
        )
        for stage, blocks in enumerate(self.shape.blocks):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"stage{stage + 1}_block{block + 1}"
                width = 64 * 2**stage
                layer = ImageNetBlock(width, stride, self.shape, by, self.zero_residual, name=name)
                (scale,) = next(scales)
                y = layer(y, train=train, scale=scale)
        return jnp.mean(y.value(), axis=(1, 2), dtype=jnp.float32)
