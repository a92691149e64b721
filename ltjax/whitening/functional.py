"""Whitening with the statistics of a batch or with given ones; pure functions, free of Flax."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltjax.whitening.batch import Batch, Past
from ltjax.whitening.methods import (
    DIAGONAL,
    MATRICES,
    METHOD,
    WHITENINGS,
    check_options,
    variances,
)
from ltjax.whitening.moments import GROUPS, Moments, center, gram, matmul, promote, split_groups
from ltjax.whitening.newton_schulz import STEPS
from ltjax.whitening.shrinkage import SHRINKAGE


class Whitened(NamedTuple):
    """What `whiten_batch` returns.

    Attributes:
      output: whitened features `[N, D]`, in the dtype of the input.
      moments: moments of the batch alone, before shrinkage.
      shrinkage: the intensity `a` that was used, `[]`, or `[G]` for G > 1 groups.
    """

    output: jax.Array
    moments: Moments
    shrinkage: jax.Array


def whiten(
    x: jax.Array,
    *,
    method: str = METHOD.default,
    shrinkage: float | str = SHRINKAGE.default,
    groups: int = GROUPS.default,
    steps: int | None = STEPS.default,
    mask: jax.Array | None = None,
    axis_name: str | None = None,
    native: bool = False,
) -> jax.Array:
    """Whitens a batch with its own statistics.

        Z = (X - mu) W,    W = S_r^(-1/2)  for ZCA,    S_r = (1 - a) S + a (tr S / D) I

    | method | W | when |
    |---|---|---|
    | `zca` | symmetric root by `eigh` of the smaller of `D x D` and `N x N` | the default |
    | `zca_svd` | the same by an SVD of the centered rows, which does not square the condition number | a ridge near rounding; slower |
    | `newton_schulz` | the same by matrix products | accelerators with a slow `eigh` |
    | `cholesky` | `L^(-T)`, `S_r = L L^T` | white, but *not* ZCA: triangular, so it depends on the order of the channels and rotates the features; cheap for N >= D |
    | `batch_norm` | `diag(S_r)^(-1/2)` | baseline: variances only, correlations stay; with a = 1e-5 a BatchNorm without scale and offset |
    | `none` | `x` itself, not even centered | baseline |

    Args:
      x: features `[N, D]`, any float dtype.
      method: one of the methods in the table.
      shrinkage: `a` in (0, 1], relative to the mean variance, so `Z` does not depend on the
        scale of `x`; or "auto" (`D / (D + 2 N)`), "ledoit_wolf" or "oas".
      groups: number of equal, contiguous channel groups, each whitened separately.
      steps: number of Newton-Schulz steps; None iterates to rounding accuracy.
      mask: bool `[N]`; padded rows (False) do not enter the statistics, and their output is 0.
      axis_name: mapped axis over which the batch is spread.
      native: whether to use the native eigendecomposition (`ltjax.kernels`) where it is faster.

    Returns:
      `[N, D]` in the dtype of `x`. If all rows are equal, it is 0, with gradient 0. NaNs propagate.

    Raises:
      InputError: an unknown method or rule, or a value out of range.

    Source: Zhang (https://arxiv.org/abs/2112.05958, https://arxiv.org/abs/2408.17197) for whitening
    before the classifier; Huang et al. (https://arxiv.org/abs/1804.08450,
    https://arxiv.org/abs/1904.03441) for ZCA of a batch, groups and the Newton iteration; Kessy et al.
    (https://arxiv.org/abs/1512.00809) for ZCA against Cholesky; the relative ridge and the choice of
    the side are ours.

    >>> whiten(jnp.array([[1.0], [3.0]])).tolist()
    [[-1.0], [1.0]]
    """  # noqa: E501
    check_options(x.shape[-1], method=method, shrinkage=shrinkage, groups=groups, steps=steps)
    if method == "none":
        return x
    return whiten_batch(
        x,
        method=method,
        shrinkage=shrinkage,
        groups=groups,
        steps=steps,
        mask=mask,
        axis_name=axis_name,
        native=native,
    ).output


def whiten_batch(
    x: jax.Array,
    *,
    method: str = METHOD.default,
    shrinkage: float | str = SHRINKAGE.default,
    groups: int = GROUPS.default,
    steps: int | None = STEPS.default,
    mask: jax.Array | None = None,
    axis_name: str | None = None,
    native: bool = False,
    past: Past | None = None,
) -> Whitened:
    """Whitens a batch like `whiten`, and returns its statistics too.

    Args:
      x: features `[N, D]`, any float dtype.
      method: see `whiten`; "none" is not a method here.
      shrinkage: see `whiten`.
      groups: see `whiten`.
      steps: see `whiten`.
      mask: see `whiten`.
      axis_name: see `whiten`.
      native: see `whiten`.
      past: running statistics to mix with those of the batch; None uses the batch alone.

    Returns:
      The whitened features, the moments of the batch and the intensity of the shrinkage.

    Source: see `whiten`; mixing with running statistics is ours.
    """
    wide = promote(x)
    xc, mean, count = center(wide, mask=mask, axis_name=axis_name)
    rows = wide if mask is None else jnp.where(mask[:, None], wide, jnp.zeros_like(wide))
    past = jax.lax.stop_gradient(Past() if past is None else past)
    batch = Batch(xc, count, shrinkage, steps, past, axis_name, native)
    if groups == 1:
        out, covariance, a = _whiten_group(batch, rows, method)
    else:
        out, covariance, a = jax.vmap(
            lambda rows, xc, past: _whiten_group(batch._replace(rows=xc, past=past), rows, method),
            in_axes=(1, 1, Past._make((0, None, 0, None))),
            out_axes=(1, 0, 0),
        )(split_groups(rows, groups), split_groups(xc, groups), past)
    return Whitened(out.reshape(x.shape).astype(x.dtype), Moments(mean, covariance), a)


def _whiten_group(
    batch: Batch, rows: jax.Array, method: str
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Whitens one group, given its rows before and after centering: `(Z, covariance, a)`."""
    xc, past, axis_name = batch.rows, batch.past, batch.axis_name
    unit = jnp.finfo(xc.dtype).eps / 2
    scale = _pmax(jnp.max(jnp.abs(jax.lax.stop_gradient(xc))), axis_name)
    largest = _pmax(jnp.max(jnp.abs(jax.lax.stop_gradient(rows))), axis_name)
    # What is left after centering equal rows is rounding; whitening would amplify it.
    flat = scale <= 16 * unit * largest
    safe = jnp.where(flat, jnp.ones_like(scale), scale)
    if past.covariance is not None:
        past = past._replace(covariance=past.covariance.astype(xc.dtype) / safe / safe)
    scaled = batch._replace(rows=jnp.where(flat, jnp.zeros_like(xc), xc / safe), past=past)
    out, a = WHITENINGS[method](scaled)
    second = variances(scaled) if method in DIAGONAL else gram(scaled.rows, axis_name)
    return out, second / batch.total * safe * safe, a


def _pmax(x: jax.Array, axis_name: str | None) -> jax.Array:
    return x if axis_name is None else jax.lax.pmax(x, axis_name)


def whitening_matrix(
    covariance: jax.Array,
    *,
    method: str = METHOD.default,
    shrinkage: float | jax.Array = SHRINKAGE.default,
    steps: int | None = STEPS.default,
) -> jax.Array:
    """The matrix that whitens with a given covariance.

        W = ((1 - a) S + a (tr S / D) I)^(-1/2)    for ZCA,    Z = (X - mu) W

    As in `whiten`, the ridge is relative to the mean variance.

    Args:
      covariance: `S`, in the shape of `Moments.covariance` for the method and the groups.
      method: as for `whiten`, but not "none"; for "zca_svd" the root is computed by `eigh`.
      shrinkage: `a` in (0, 1], `[]`, or `[G]` for groups.
      steps: number of Newton-Schulz steps; None iterates to rounding accuracy.

    Returns:
      `W`, `[D, D]`; `[G, D/G, D/G]` for groups; `[D]`, its diagonal, for "batch_norm". Where the
      covariance is 0, so is `W`.

    Source: see `whiten`.

    >>> whitening_matrix(jnp.eye(2) * 4, shrinkage=0.5).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    one = partial(_matrix, method=method, steps=steps)
    shrinkage = jnp.asarray(shrinkage, covariance.dtype)
    if covariance.ndim == (1 if method in DIAGONAL else 2):
        return one(covariance, shrinkage)
    out = jax.vmap(one, in_axes=(0, 0 if shrinkage.ndim else None))(covariance, shrinkage)
    return out.reshape(-1) if method in DIAGONAL else out


def _matrix(covariance: jax.Array, a: jax.Array, *, method: str, steps: int | None) -> jax.Array:
    total = jnp.sum(covariance) if method in DIAGONAL else jnp.trace(covariance)
    variance = total / covariance.shape[-1]
    flat = variance <= 0
    safe = jnp.where(flat, jnp.ones_like(variance), variance)
    root = MATRICES[method]((1 - a) * covariance / safe, a, steps) / jnp.sqrt(safe)
    return jnp.where(flat, jnp.zeros_like(root), root)


def apply_matrix(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """The product `W K` of a whitening matrix and a kernel.

    Args:
      matrix: `W`, in any shape that `whitening_matrix` returns.
      right: `K`, `[D, C]`.

    Returns:
      `[D, C]`.

    Source: ours.
    """
    if matrix.ndim == 1:
        return matrix[:, None] * right
    if matrix.ndim == 2:
        return matmul(matrix, right)
    blocks = right.reshape(matrix.shape[0], matrix.shape[1], -1)
    return jax.vmap(matmul)(matrix, blocks).reshape(right.shape)


def fold_into_dense(
    mean: jax.Array, matrix: jax.Array, kernel: jax.Array, bias: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Folds whitening by running statistics and the dense layer after it into one affine map.

        ((x - mu) W) K + b = x K' + b',    K' = W K,    b' = b - mu K'

    Args:
      mean: running mean `mu`, `[D]`.
      matrix: `W`, as `whitening_matrix` or `freeze` gives it.
      kernel: `K`, `[D, C]`.
      bias: `b`, `[C]`; None is 0.

    Returns:
      `(K', b')`, `[D, C]` and `[C]`.

    Source: ours.

    >>> kernel, bias = fold_into_dense(jnp.ones(2), jnp.eye(2) / 2, jnp.array([[2.0], [4.0]]))
    >>> kernel.tolist(), bias.tolist()
    ([[1.0], [2.0]], [-3.0])
    """
    folded = apply_matrix(matrix, kernel)
    shift = apply_matrix(mean[None, :], folded)[0]
    return folded, -shift if bias is None else bias - shift
