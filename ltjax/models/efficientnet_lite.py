"""EfficientNet-Lite0, a small network for photographs that ships with pretrained weights."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.models.initialization import Initializer
from ltjax.models.layers import FAN_OUT, Computation, conv_norm

# TensorFlow's batch norm, as the published weights were trained with.
MOMENTUM, EPSILON = 0.99, 1e-3
STEM, TOP = 32, 1280


class Stage(NamedTuple):
    """Blocks of one width; the first block has the stride.

    Attributes:
      blocks: number of blocks.
      size: side of the depthwise kernels.
      stride: of the first block.
      expansion: channels inside a block per channel of its input.
      width: channels of the output.
    """

    blocks: int
    size: int
    stride: int
    expansion: int
    width: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class InvertedResidual(nn.Module):
    """A 1x1 expansion, a depthwise convolution and a linear 1x1 projection, with batch norms.

    The input is added where its shape is that of the output.

    Attributes:
      stage: the stage that the block belongs to.
      stride: of the depthwise convolution.
      by: how to compute.

    Source: Sandler et al., MobileNetV2 (CVPR 2018, https://arxiv.org/abs/1801.04381), section 3.
    """

    stage: Stage
    stride: int
    by: Computation

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """`[B, H, W, C] -> [B, H / stride, W / stride, stage.width]`."""
        inner, y, by = self.stage.expansion * x.shape[-1], x, self.by
        if self.stage.expansion > 1:
            y = nn.relu6(conv_norm(y, inner, 1, 1, "1", train, by, same=True).value())
        size, stride = self.stage.size, self.stride
        y = conv_norm(y, inner, size, stride, "2", train, by, same=True, groups=inner).value()
        y = conv_norm(nn.relu6(y), self.stage.width, 1, 1, "3", train, by, same=True).value()
        return x + y if x.shape == y.shape else y


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0: a stem, seven stages of inverted residuals, and average pooling.

    It is EfficientNet-B0 with ReLU6 instead of swish and without squeeze-and-excitation, padded
    as TensorFlow does. The 1x1 convolution to 1,280 channels belongs to the backbone.

    Attributes:
      axis_name: mapped axis over which the statistics of batch norm are averaged.
      dtype: dtype of the computation; parameters are float32.
      native: whether to use native kernels where they are available.
      kernel_init: initializer of the convolutions' kernels.
      stages: blocks of the stages.

    Source: Tan and Le, EfficientNet (ICML 2019, https://arxiv.org/abs/1905.11946); the Lite variant
    is https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.
    """

    axis_name: str | None = None
    dtype: Any = jnp.float32
    native: bool = False
    kernel_init: Initializer = FAN_OUT
    stages: tuple[Stage, ...] = STAGES

    @property
    def features(self) -> int:
        """Channels of the output."""
        return TOP

    @property
    def momentum(self) -> float:
        """Part of the running statistics of batch norm that a step keeps."""
        return MOMENTUM

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images `[B, H, W, C] -> features [B, 1280]`."""
        by = Computation(
            self.axis_name, self.dtype, self.native, self.kernel_init, MOMENTUM, EPSILON
        )
        y = conv_norm(x, STEM, 3, 2, "stem", train, by, same=True, images=True).value()
        y = nn.relu6(y)
        for number, stage in enumerate(self.stages, 1):
            for block in range(stage.blocks):
                stride = stage.stride if block == 0 else 1
                name = f"stage{number}_block{block + 1}"
                y = InvertedResidual(stage, stride, by, name=name)(y, train=train)
        y = nn.relu6(conv_norm(y, TOP, 1, 1, "top", train, by, same=True).value())
        return jnp.mean(y, axis=(1, 2), dtype=jnp.float32)
