"""ResNets and ResNeXts for images of 224 pixels, as ImageNet-LT experiments run them."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.models.layers import conv, norm


class Shape(NamedTuple):
    """A network of the family.

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
    axis_name: str | None
    dtype: Any
    zero_residual: bool

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """`[B, H, W, C] -> [B, H / stride, W / stride, width or 4 width]`."""

        def apply(x, width, size, stride, number, *, last=False, groups=1):
            x = conv(width, size, stride, f"conv{number}", self.dtype, groups=groups)(x)
            zero = last and self.zero_residual
            x = norm(x, train, self.axis_name, f"norm{number}", self.dtype, zero_scale=zero)
            return x if last else nn.relu(x)

        if self.shape.bottleneck:
            inner = self.width * self.shape.group_width // 64 * self.shape.groups
            y = apply(x, inner, 1, 1, 1)
            y = apply(y, inner, 3, self.stride, 2, groups=self.shape.groups)
            y = apply(y, 4 * self.width, 1, 1, 3, last=True)
        else:
            y = apply(x, self.width, 3, self.stride, 1)
            y = apply(y, self.width, 3, 1, 2, last=True)
        if x.shape != y.shape:
            x = conv(y.shape[-1], 1, self.stride, "shortcut", self.dtype)(x)
            x = norm(x, train, self.axis_name, "shortcut_norm", self.dtype)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """A 7x7 stem with max pooling and four stages of 64, 128, 256, 512; average pooling.

    Attributes:
      shape: blocks of the stages and their kind.
      axis_name: mapped axis over which batch-norm statistics are reduced.
      dtype: of the computation; parameters are float32.
      zero_residual: start every block as the identity.

    Source: He et al., Deep Residual Learning (CVPR 2016, https://arxiv.org/abs/1512.03385); Xie et
    al., Aggregated Residual Transformations (CVPR 2017, https://arxiv.org/abs/1611.05431).
    """

    shape: Shape
    axis_name: str | None = None
    dtype: Any = jnp.float32
    zero_residual: bool = False

    @property
    def features(self) -> int:
        """Channels of the output."""
        return 2048 if self.shape.bottleneck else 512

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images `[B, H, W, C] -> features [B, 512 or 2048]`."""
        x = conv(64, 7, 2, "stem", self.dtype)(x)
        x = nn.relu(norm(x, train, self.axis_name, "stem_norm", self.dtype))
        x = nn.max_pool(x, (3, 3), (2, 2), padding=[(1, 1), (1, 1)])
        for stage, blocks in enumerate(self.shape.blocks):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                x = ImageNetBlock(
                    64 * 2**stage,
                    stride,
                    self.shape,
                    self.axis_name,
                    self.dtype,
                    self.zero_residual,
                    name=f"stage{stage + 1}_block{block + 1}",
                )(x, train=train)
        return jnp.mean(x, axis=(1, 2))
