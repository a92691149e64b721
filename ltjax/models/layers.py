"""The convolution and the batch norm of all backbones, by XLA or by native kernels."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.kernels import pooling, units
from ltjax.models.convolution import convolution
from ltjax.models.initialization import INITIALIZATIONS, Initializer

BATCH_NORM_MOMENTUM, BATCH_NORM_EPSILON = 0.9, 1e-5
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
FAN_OUT = INITIALIZATIONS["fan_out"].convolution


class Computation(NamedTuple):
    """How a backbone computes; the same for all of its layers.

    Attributes:
      axis_name: mapped axis over which the statistics of batch norm are averaged.
      dtype: dtype of the computation; parameters are float32.
      native: whether to use native kernels for the convolutions that they support.
      kernel_init: initializer of the convolutions' kernels.
      momentum: part of the running statistics of batch norm that a step keeps.
      epsilon: what batch norm adds to the variance.
    """

    axis_name: str | None = None
    dtype: Any = jnp.float32
    native: bool = False
    kernel_init: Initializer = FAN_OUT
    momentum: float = BATCH_NORM_MOMENTUM
    epsilon: float = BATCH_NORM_EPSILON


def conv(
    width: int,
    size: int,
    stride: int,
    name: str,
    by: Computation,
    *,
    groups: int = 1,
    same: bool = False,
) -> nn.Conv:
    """A convolution without bias.

    Args:
      width: number of output channels.
      size: side of the square kernel, odd.
      stride: stride in both directions.
      name: name of the parameters.
      by: how to compute.
      groups: number of groups of channels, each convolved separately.
      same: whether to pad like XLA's SAME, where a strided convolution pads one side more than the
        other. Otherwise both sides are padded alike, as in the networks of the papers.

    Returns:
      The layer.

    Source: `flax.linen.Conv`.
    """
    return nn.Conv(
        width,
        (size, size),
        (stride, stride),
        padding="SAME" if same else [(size // 2, size // 2)] * 2,
        use_bias=False,
        feature_group_count=groups,
        kernel_init=by.kernel_init,
        dtype=by.dtype,
        name=name,
        conv_general_dilated=convolution,
    )


def norm(
    x: jax.Array,
    train: bool,
    name: str,
    by: Computation,
    *,
    zero_scale: bool = False,
) -> jax.Array:
    """Batch norm in float32; to be called inside a compact module.

    Args:
      x: `[B, H, W, C]`.
      train: whether to use the statistics of the batch and update the running ones.
      name: name of the parameters.
      by: how to compute.
      zero_scale: whether the scale is initialized with 0, so that a residual block starts as the
        identity.

    Returns:
      `[B, H, W, C]`.

    Source: Ioffe and Szegedy, Batch Normalization (ICML 2015), https://arxiv.org/abs/1502.03167;
    the zero scale is from Goyal et al. (2017), https://arxiv.org/abs/1706.02677, section 5.1.
    """
    layer = nn.BatchNorm(
        momentum=by.momentum,
        epsilon=by.epsilon,
        axis_name=by.axis_name,
        scale_init=nn.initializers.zeros if zero_scale else nn.initializers.ones,
        name=name,
    )
    return layer(x.astype(jnp.float32), use_running_average=not train).astype(by.dtype)


def norms_in_evaluation(which: Callable[[tuple[str, ...]], bool]) -> AbstractContextManager[Any]:
    """Lets some batch norms use their running statistics and leave them as they are.

    Args:
      which: says it of a batch norm, from the names that lead to it.

    Returns:
      A context; networks that are applied in it with `train=True` do so.
    """

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        layer = context.module
        own = isinstance(layer, nn.BatchNorm | _Norm) and context.method_name == "__call__"
        if own and which(layer.path):
            key, value = _EVALUATED[type(layer)]
            kwargs = {**kwargs, key: value}
        return call(*args, **kwargs)

    return nn.intercept_methods(intercept)


class Normed(NamedTuple):
    """The output of a batch norm, which the next convolution may compute along with its own.

    Attributes:
      x: `[B, H, W, C]`.
      affine: `(a, b)`, `[2, C]`, of the output `a x + b`; None if `x` is the output.
      shortcut: `[B, H, W, C]`, added to the output; None adds nothing.
      relu: whether a ReLU follows.
      given: `[B, H, W, C]`, the input of the convolution before the batch norm; None unless
        `branching_conv_norm` computed it.
    """

    x: jax.Array
    affine: jax.Array | None = None
    shortcut: jax.Array | None = None
    relu: bool = False
    given: jax.Array | None = None

    def value(self) -> jax.Array:
        """Computes the output.

        Returns:
          `[B, H, W, C]`, in the dtype of `x`.
        """
        y = self.x
        if self.affine is not None:
            shape = (1, 1, 1, -1)
            y = self.affine[0].reshape(shape) * y.astype(jnp.float32)
            y = y + self.affine[1].reshape(shape)
        if self.shortcut is not None:
            y = y + self.shortcut.astype(y.dtype)
        return (nn.relu(y) if self.relu else y).astype(self.x.dtype)


class _Kernel(nn.Module):
    """Holds the parameter of `conv`, under the same name."""

    kernel_init: Initializer

    @nn.compact
    def __call__(self, shape: tuple[int, ...]) -> jax.Array:
        return self.param("kernel", self.kernel_init, shape, jnp.float32)


class _Norm(nn.Module):
    """Holds the parameters and running statistics of `norm`, under the same names."""

    zero_scale: bool
    by: Computation

    @nn.compact
    def __call__(self, sums: jax.Array, count: int, *, train: bool) -> jax.Array:
        """The batch norm as `(a, b)`, from sums over `count` pixels or the running statistics."""
        width = sums.shape[1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, width, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, width, jnp.float32)
        first = nn.initializers.zeros if self.zero_scale else nn.initializers.ones
        scale = self.param("scale", first, width, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, width, jnp.float32)
        found = units.Moments(mean.value, var.value)
        if train:
            found = units.moments(
                sums, count, None if self.is_initializing() else self.by.axis_name
            )
            if not self.is_initializing():
                keep = self.by.momentum
                mean.value = keep * mean.value + (1 - keep) * found.mean
                var.value = keep * var.value + (1 - keep) * found.variance
        return units.norm_affine(found, scale, bias, epsilon=self.by.epsilon)


# How a batch norm is told to use its running statistics.
_EVALUATED: dict[type, tuple[str, bool]] = {
    nn.BatchNorm: ("use_running_average", True),
    _Norm: ("train", False),
}


def conv_norm(
    x: jax.Array | Normed,
    width: int,
    size: int,
    stride: int,
    number: str,
    train: bool,
    by: Computation,
    *,
    relu: bool = False,
    groups: int = 1,
    same: bool = False,
    zero_scale: bool = False,
    images: bool = False,
    branching: bool = False,
) -> Normed:
    """A convolution and the batch norm after it; to be called inside a compact module.

    A native kernel computes the batch norm, the shortcut and the ReLU before the convolution, too,
    and the statistics of the batch norm after it. The parameters are the
    same with and without native kernels.

    Args:
      x: `[B, H, W, C]`, or the output of the batch norm before.
      width: number of output channels.
      size: see `conv`.
      stride: see `conv`.
      number: the parameters are named `conv{number}` and `norm{number}`. The names "stem" and
        "shortcut" stand for themselves.
      train: whether to use the statistics of the batch and update the running ones.
      by: how to compute.
      relu: whether a ReLU follows.
      groups: see `conv`.
      same: see `conv`.
      zero_scale: see `norm`.
      images: whether `x` are the images, which need no gradient.
      branching: see `branching_conv_norm`.

    Returns:
      The output of the batch norm, which may not be computed yet.

    Source: ours.
    """
    word = number.isdigit()
    names = (f"conv{number}", f"norm{number}") if word else (number, f"{number}_norm")
    before = x if isinstance(x, Normed) else Normed(x)
    if not _is_native(before.x, width, by, groups=groups):
        layer = conv(width, size, stride, names[0], by, groups=groups, same=same)
        given = before.value()
        y = layer(given)
        y = norm(y, train, names[1], by, zero_scale=zero_scale)
        return Normed(y, relu=relu, given=given)
    if before.affine is None or not before.relu:
        before = Normed(before.value())
    kernel = _Kernel(by.kernel_init, name=names[0])((size, size, before.x.shape[-1], width))
    given = before.x
    if before.affine is not None and (branching or before.shortcut is not None):
        z, sums, given = units.branching_unit(
            before.x, before.affine, before.shortcut, kernel, stride, same=same, dtype=by.dtype
        )
    else:
        z, sums = units.unit(
            before.x, before.affine, kernel, stride, not images, same=same, dtype=by.dtype
        )
    count = z.size // width
    affine = _Norm(zero_scale, by, name=names[1])(sums, count, train=train)
    return Normed(z, affine, relu=relu, given=given if branching else None)


def branching_conv_norm(x: Normed, *args: Any, **options: Any) -> tuple[Normed, jax.Array]:
    """`conv_norm` at the start of a residual block, whose input goes another way, too.

    Args:
      x: the output of the block before, which may not be computed yet.
      *args: further arguments of `conv_norm`.
      **options: its keyword arguments.

    Returns:
      The output of the batch norm as of `conv_norm`; the value of `x`.

    Source: ours.
    """
    y = conv_norm(x, *args, branching=True, **options)
    assert y.given is not None
    return y, y.given


def max_pool(x: Normed) -> Normed:
    """Max pooling over windows of 3 x 3 with stride 2 and a border of one pixel.

    Args:
      x: the output of a batch norm, which may not be computed yet.

    Returns:
      `[B, ceil(H / 2), ceil(W / 2), C]`, as a value.

    Source: ours.
    """
    if x.affine is not None and x.relu and x.shortcut is None:  # by native kernels
        return Normed(pooling.max_pool(x.x, x.affine))
    return Normed(nn.max_pool(x.value(), (3, 3), (2, 2), padding=[(1, 1), (1, 1)]))


def _is_native(x: jax.Array, width: int, by: Computation, *, groups: int) -> bool:
    """Whether a native kernel computes this convolution."""
    if not by.native or groups != 1 or x.dtype not in (jnp.float32, by.dtype):
        return False
    return units.supports(x.shape[-1], width, by.dtype)
