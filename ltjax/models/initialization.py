"""Initializations of convolutions and of the linear classifier."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from ltjax.errors import Option, one_of

# A function of a key, a shape and a dtype.
Initializer = Callable[..., Any]


class Initialization(NamedTuple):
    """How the parameters of a network start; batch norm's scale starts at 1 and its bias at 0.

    Attributes:
      convolution: initializer of convolutions' kernels.
      kernel: initializer of the linear classifier's kernel `[D, C]`.
      bias: function from D to the initializer of its bias `[C]`.
    """

    convolution: Initializer
    kernel: Initializer
    bias: Callable[[int], Initializer]


def zero_bias(features: int) -> Initializer:
    """The initializer of a bias that starts at 0, whatever the number of features.

    Args:
      features: D.

    Returns:
      The initializer.

    >>> float(zero_bias(64)(jax.random.key(0), ()))
    0.0
    """
    return nn.initializers.zeros


def uniform_bias(features: int) -> Initializer:
    """The initializer of a bias that is uniform between `-1 / sqrt(D)` and `1 / sqrt(D)`.

    Args:
      features: D, the number of features that the layer takes.

    Returns:
      The initializer.

    Source: `torch.nn.Linear`,
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html

    >>> bias = uniform_bias(64)(jax.random.key(0), (1000,))
    >>> bool(abs(bias).max() <= 1 / 8)
    True
    """
    bound = 1 / math.sqrt(features)

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = float) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
_FAN_IN = nn.initializers.variance_scaling(2.0, "fan_in", "normal")

# Initializations by name. Sources: He et al., Delving Deep into Rectifiers (ICCV 2015),
# https://arxiv.org/abs/1502.01852, who offer both fans; fan_in is that of
# https://github.com/kaidic/LDAM-DRW, models/resnet_cifar.py, `_weights_init`.
INITIALIZATIONS: dict[str, Initialization] = {
    "fan_out": Initialization(_FAN_OUT, nn.initializers.normal(0.01), zero_bias),
    "fan_in": Initialization(_FAN_IN, _FAN_IN, uniform_bias),
}

INIT = Option(
    "fan_out",
    one_of(*INITIALIZATIONS),
    "initialization; fan_out: convolutions of variance 2 / fan_out, a linear head of deviation "
    "0.01 and bias 0; fan_in: both of variance 2 / fan_in, its bias uniform within "
    "1 / sqrt(fan_in), as in the CIFAR-LT code of Cao et al.",
)
