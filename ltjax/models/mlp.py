"""Hidden layers on given features or on small images, or none at all."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.errors import Allowed, Option, is_integer
from ltjax.models.initialization import Initializer
from ltjax.models.layers import FAN_OUT, Computation, norm

WIDEST, DEEPEST = 65_536, 16


def _widths(value: Any) -> bool:
    if not isinstance(value, tuple | list) or len(value) > DEEPEST:
        return False
    return all(is_integer(width) and 1 <= width <= WIDEST for width in value)


HIDDEN = Option(
    (),
    Allowed(_widths, f"at most {DEEPEST} integers >= 1 and <= {WIDEST}"),
    "mlp: widths of the hidden layers; () has none, and given features themselves are whitened",
)


class MLP(nn.Module):
    """Hidden layers on given features `[B, D]`, such as embeddings of another network.

        x <- relu(batch_norm(x W))    for every width in `hidden`

    Without hidden layers it is the identity and has no parameters, so that whitening and head act
    on the given features. Images `[B, H, W, C]` are features too, D = H W C: no more than a
    baseline, of small images.

    Attributes:
      hidden: widths of the layers.
      axis_name: mapped axis over which the statistics of batch norm are averaged.
      dtype: dtype of the computation; parameters are float32.
      kernel_init: initializer of the layers' kernels.

    Source: ours.

    >>> x = jnp.ones((2, 3))
    >>> MLP().init_with_output(jax.random.key(0), x, train=False)[0].shape
    (2, 3)
    >>> MLP((5,)).init_with_output(jax.random.key(0), x, train=False)[0].shape
    (2, 5)
    >>> images = jnp.ones((2, 8, 8, 1))
    >>> MLP((5,)).init_with_output(jax.random.key(0), images, train=False)[0].shape
    (2, 5)
    """

    hidden: tuple[int, ...] = HIDDEN.default
    axis_name: str | None = None
    dtype: Any = jnp.float32
    kernel_init: Initializer = FAN_OUT

    @property
    def features(self) -> int | None:
        """Width of the output; None where it is that of the input."""
        return self.hidden[-1] if self.hidden else None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Given features `[B, D] -> features [B, hidden[-1]]`, or `[B, D]`."""
        x = x.reshape(x.shape[0], math.prod(x.shape[1:]))  # the batch may be of any size
        by = Computation(self.axis_name, self.dtype, kernel_init=self.kernel_init)
        for number, width in enumerate(self.hidden, 1):
            dense = nn.Dense(
                width,
                use_bias=False,
                kernel_init=self.kernel_init,
                dtype=self.dtype,
                name=f"dense{number}",
            )
            y = norm(dense(x), train, f"norm{number}", by)
            x = nn.relu(y)
        return x
