"""A small residual network for small images."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut.

    Source: He et al., Deep Residual Learning (CVPR 2016), the basic block; the shortcut is
    a strided 1x1 convolution with batch norm where the shape changes (option B).
    """

    width: int
    stride: int = 1
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """`[B, H, W, C] -> [B, H / stride, W / stride, width]`."""
        y = _conv(self.width, 3, self.stride, "conv1")(x)
        y = nn.relu(_norm(train, self.axis_name, "norm1")(y))
        y = _conv(self.width, 3, 1, "conv2")(y)
        y = _norm(train, self.axis_name, "norm2")(y)
        if x.shape != y.shape:
            x = _conv(self.width, 1, self.stride, "shortcut")(x)
            x = _norm(train, self.axis_name, "shortcut_norm")(x)
        return nn.relu(x + y)


class ConvNet(nn.Module):
    """A stem, then one stage of residual blocks per width; global average pooling.

    Attributes:
      widths: channels of each stage; every stage but the first halves the image.
      blocks: residual blocks per stage.
      axis_name: mapped axis over which batch-norm statistics are reduced.
    """

    widths: tuple[int, ...] = (32, 64)
    blocks: int = 1
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images `[B, H, W, C] -> features [B, widths[-1]]`."""
        x = _conv(self.widths[0], 3, 1, "stem")(x)
        x = nn.relu(_norm(train, self.axis_name, "stem_norm")(x))
        for stage, width in enumerate(self.widths):
            for block in range(self.blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"stage{stage + 1}_block{block + 1}"
                x = ResidualBlock(width, stride, self.axis_name, name=name)(x, train=train)
        return jnp.mean(x, axis=(1, 2))


def _conv(width: int, size: int, stride: int, name: str) -> nn.Conv:
    init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
    shape, strides = (size, size), (stride, stride)
    return nn.Conv(width, shape, strides, use_bias=False, kernel_init=init, name=name)


def _norm(train: bool, axis_name: str | None, name: str) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, axis_name=axis_name, name=name)
