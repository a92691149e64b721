"""First and second moments of a batch of feature vectors, and the shrinkage of a covariance.

Pure functions of JAX arrays, free of Flax. Everything is computed in float32 or wider:
float16 and bfloat16 features are promoted first. Products ask for `Precision.HIGHEST`,
since the default float32 product is bfloat16 on TPU and TF32 on recent GPUs.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltjax.errors import Option, integer

GROUPS = Option(
    1, integer(1, 2**16), "number of equal, contiguous channel groups, each whitened separately"
)
HIGHEST = jax.lax.Precision.HIGHEST


class Moments(NamedTuple):
    """Mean and covariance of feature vectors, float32 or wider.

    Attributes:
      mean: `[D]`.
      covariance: `[D, D]`; for `G > 1` groups of channels its diagonal blocks, `[G, D/G, D/G]`.
        Where only variances are needed, `[D]`, or `[G, D/G]` for groups.
    """

    mean: jax.Array
    covariance: jax.Array


def matmul(*factors: jax.Array, block: int | None = None) -> jax.Array:
    """Product of matrices, from left to right, in full float32 precision on every platform.

    Args:
      *factors: matrices, at least one.
      block: rows of the left factor that are multiplied at once, in turns of a loop, which TPU's
        compiler needs far less time for; None multiplies all.

    Returns:
      Their product.

    Source: ours.
    """
    out = factors[0]
    for factor in factors[1:]:
        if block is None or len(out) <= block:
            out = jnp.matmul(out, factor, precision=HIGHEST)
        else:
            out = _by_blocks(out, factor, block)
    return out


def _by_blocks(left: jax.Array, right: jax.Array, block: int) -> jax.Array:
    # Cast here, since in the loop the cast's transpose would be a sum over devices in each turn.
    left, right = varying_like(left, right), varying_like(right, left)
    out: jax.Array = jax.lax.map(lambda rows: matmul(rows, right), _blocks(left, block))
    return out.reshape(-1, right.shape[1])[: len(left)]


def _blocks(rows: jax.Array, block: int) -> jax.Array:
    """The rows in equal blocks of at most so many, with zeros at the end."""
    count, size = rows.shape
    turns = -(-count // block)
    equal = -(-count // turns)
    return jnp.pad(rows, ((0, turns * equal - count), (0, 0))).reshape(turns, equal, size)


def varying_like(x: jax.Array, rows: jax.Array) -> jax.Array:
    """Types what devices share as what may differ between them, where `rows` may.

    `shard_map` inserts this cast by itself, but inside a linear solve it cannot be transposed.

    Args:
      x: any array.
      rows: any array.

    Returns:
      `x`, with at least the varying axes of `rows`.

    Source: ours.
    """
    axes = tuple(jax.typeof(rows).mat.varying - jax.typeof(x).mat.varying)
    if axes:
        x = jax.lax.pcast(x, axes, to="varying")
    return x


def promote(x: jax.Array) -> jax.Array:
    """Casts an array to float32 unless it is wider.

    Args:
      x: any float dtype.

    Returns:
      The same shape, float32 or float64.

    Source: ours.
    """
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def psum(x: jax.Array, axis_name: str | None) -> jax.Array:
    """Sums over a mapped axis, if there is one.

    Args:
      x: any array.
      axis_name: name of the mapped axis, or None.

    Returns:
      The sum, equal on all devices; `x` itself without a mapped axis.

    Source: ours.
    """
    return x if axis_name is None else jax.lax.psum(x, axis_name)


def center(
    x: jax.Array, *, mask: jax.Array | None = None, axis_name: str | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Subtracts the mean of the whole (cross-device) batch; masked rows become 0.

    Args:
      x: features `[N, D]`, float32 or wider.
      mask: bool `[N]`, False for rows that are padding.
      axis_name: mapped axis over which the batch is spread.

    Returns:
      `(xc, mean, count)`: centered rows `[N, D]`, mean `[D]`, number of rows `[]`, at least 1.

    Source: ours.
    """
    keep = jnp.ones(x.shape[:1], x.dtype) if mask is None else mask.astype(x.dtype)
    # `where` instead of a product, since a padded row may hold anything, even NaN.
    rows = x if mask is None else jnp.where(mask[:, None], x, jnp.zeros_like(x))
    count = jnp.maximum(psum(jnp.sum(keep), axis_name), jnp.ones((), x.dtype))
    mean = psum(jnp.sum(rows, axis=0), axis_name) / count
    centered = rows - mean[None, :]
    return (centered if mask is None else centered * keep[:, None]), mean, count


def batch_moments(
    x: jax.Array,
    *,
    groups: int = GROUPS.default,
    diagonal: bool = False,
    mask: jax.Array | None = None,
    axis_name: str | None = None,
) -> Moments:
    """Mean and (biased) covariance of a batch.

        mu = sum_i x_i / N,    S = sum_i (x_i - mu) (x_i - mu)^T / N

    Over a mapped axis the mean is reduced first and the covariance is that of globally
    centered rows: `E[x x^T] - mu mu^T` loses all digits where the mean is large.

    Args:
      x: features `[N, D]`, any float dtype.
      groups: number of equal, contiguous channel groups; covariances within groups only.
      diagonal: compute variances only.
      mask: bool `[N]`; rows with False do not enter the statistics.
      axis_name: mapped axis over which the batch is spread.

    Returns:
      `Moments` in float32 or wider, equal on every device.

    Source: Huang et al., Decorrelated Batch Normalization (CVPR 2018,
    https://arxiv.org/abs/1804.08450), eq. 1; the reduction over devices is ours.

    >>> batch_moments(jnp.array([[1.0, 0.0], [3.0, 0.0]])).covariance.tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    xc, mean, count = center(promote(x), mask=mask, axis_name=axis_name)
    if diagonal:
        variances = psum(jnp.sum(xc * xc, axis=0), axis_name) / count
        return Moments(mean, variances if groups == 1 else split_groups(variances, groups))
    if groups == 1:
        return Moments(mean, gram(xc, axis_name) / count)
    blocks = jax.vmap(lambda rows: gram(rows, axis_name), in_axes=1)(split_groups(xc, groups))
    return Moments(mean, blocks / count)


def split_groups(x: jax.Array, groups: int) -> jax.Array:
    """Splits the channels into contiguous groups.

    Args:
      x: `[..., D]`.
      groups: G, a divisor of D.

    Returns:
      `[..., G, D/G]`.

    Source: ours.
    """
    return x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)


def gram(rows: jax.Array, axis_name: str | None = None, *, block: int | None = None) -> jax.Array:
    """`X^T X`, summed over the mapped axis.

    Args:
      rows: `X`, `[N, D]`.
      axis_name: mapped axis over which the rows are spread.
      block: see `matmul`.

    Returns:
      `[D, D]`.

    Source: ours.
    """
    if block is None or len(rows) <= block:
        return psum(matmul(rows.T, rows), axis_name)
    return psum(_gram_by_blocks(rows, block), axis_name)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _gram_by_blocks(rows: jax.Array, block: int) -> jax.Array:
    return _inner(rows, rows, block)


@_gram_by_blocks.defjvp
def _gram_by_blocks_jvp(
    block: int, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    # One product, where autodiff takes two.
    half = _inner(primals[0], tangents[0], block)
    return _gram_by_blocks(primals[0], block), half + half.T


def _inner(left: jax.Array, right: jax.Array, block: int) -> jax.Array:
    """`Y^T X`, summed over blocks of rows."""

    def add(total: jax.Array, rows: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        each = jax.lax.dot_general(*rows, (((0,), (0,)), ((), ())), precision=HIGHEST)
        return total + each, None

    left, right = varying_like(left, right), varying_like(right, left)
    zero = jnp.zeros((left.shape[1], right.shape[1]), left.dtype)
    blocks = _blocks(left, block), _blocks(right, block)
    total: jax.Array = jax.lax.scan(add, varying_like(zero, left), blocks)[0]
    return total


def shrink(covariance: jax.Array, shrinkage: float) -> jax.Array:
    """Shrinks a covariance toward the multiple of the identity that has the same trace.

        S_r = (1 - a) S + a (tr S / D) I

    The ridge is relative to the mean variance, so unlike an absolute epsilon it does not depend on
    the scale of the features.

    Args:
      covariance: `S`, `[D, D]`.
      shrinkage: `a` in [0, 1].

    Returns:
      `S_r`, `[D, D]`.

    Source: Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices
    (2004, https://doi.org/10.1016/S0047-259X(03)00096-4), for the target.

    >>> shrink(jnp.diag(jnp.array([1.0, 3.0])), 0.5).tolist()
    [[1.5, 0.0], [0.0, 2.5]]
    """
    size = covariance.shape[-1]
    scale = jnp.trace(covariance) / size
    eye = jnp.eye(size, dtype=covariance.dtype)
    return (1 - shrinkage) * covariance + shrinkage * scale * eye
