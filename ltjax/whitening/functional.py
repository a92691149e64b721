"""Whitening of a batch, and by given moments, behind one interface; pure functions free of Flax."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltjax.whitening.methods import Batch, Past, check_options, factor, named, variances
from ltjax.whitening.moments import (
    Moments,
    centre,
    gram,
    matmul,
    promote,
    split_groups,
)
from ltjax.whitening.roots import inverse_sqrt


class Whitened(NamedTuple):
    """What `whiten_batch` returns.

    Attributes:
      output: whitened rows `[N, D]` in the input dtype.
      moments: of the batch, before any mixing or shrinkage.
      shrinkage: intensity `a` that was used, `[]`, or `[G]` for G > 1 groups.
    """

    output: jax.Array
    moments: Moments
    shrinkage: jax.Array


def whiten(
    x: jax.Array,
    *,
    method: str = "zca",
    shrinkage: float | str = 1e-2,
    groups: int = 1,
    steps: int | None = None,
    mask: jax.Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """Whitens a batch with its own statistics.

        Z = (X - mu) W,    W = S_r^(-1/2)  for ZCA,    S_r = (1 - a) S + a (tr S / D) I

    | method | W | when |
    |---|---|---|
    | `zca` | symmetric root by `eigh` of the smaller of `D x D` and `N x N` | the default |
    | `zca_svd` | the same by an SVD of the centred rows, which does not square the condition number | a ridge near rounding; slower |
    | `newton_schulz` | the same by matrix products | accelerators with a slow `eigh` |
    | `cholesky` | `L^(-T)`, `S_r = L L^T` | white, but *not* ZCA: triangular, so it depends on the order of the channels and rotates the features; cheap for N >= D |
    | `batch_norm` | `diag(S_r)^(-1/2)` | baseline: variances only, correlations stay; with a = 1e-5 a BatchNorm without scale and offset |
    | `none` | `x` itself, not even centred | baseline |

    Args:
      x: features `[N, D]`, any float dtype.
      method: one of the table.
      shrinkage: `a` in (0, 1], relative to the mean variance, so `Z` does not depend on the
        scale of `x`; or "auto" (`D / (D + 2 N)`), "ledoit_wolf" or "oas".
      groups: whiten so many equal, contiguous groups of channels separately.
      steps: Newton-Schulz: number of steps; None iterates until rounding.
      mask: bool `[N]`; padded rows do not enter the statistics and come out as 0.
      axis_name: mapped axis over which the batch is spread.

    Returns:
      `[N, D]` in the dtype of `x`. All rows equal give 0 with gradient 0; NaN propagates.

    Raises:
      InputError: an unknown method or rule, or a value out of range.

    Source: Zhang, arXiv 2112.05958 and 2408.17197 (whitening before the classifier);
    Huang et al. (2018, 2019) (batch ZCA, groups, Newton iteration); Kessy et al. (2018)
    (ZCA against Cholesky); the relative ridge and the choice of side are ours.

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
    ).output


def whiten_batch(
    x: jax.Array,
    *,
    method: str = "zca",
    shrinkage: float | str = 1e-2,
    groups: int = 1,
    steps: int | None = None,
    mask: jax.Array | None = None,
    axis_name: str | None = None,
    past: Past | None = None,
) -> Whitened:
    """`whiten` by any method but "none", together with what it was made with.

    Args:
      x: features `[N, D]`, any float dtype.
      method: see `whiten`, as the arguments not named here.
      shrinkage: see `whiten`.
      groups: see `whiten`.
      steps: see `whiten`.
      mask: see `whiten`.
      axis_name: see `whiten`.
      past: running statistics that take part.
    """
    wide = promote(x)
    xc, mean, count = centre(wide, mask=mask, axis_name=axis_name)
    rows = wide if mask is None else jnp.where(mask[:, None], wide, jnp.zeros_like(wide))
    core = partial(_core, rule=shrinkage, method=method, steps=steps, axis_name=axis_name)
    past = jax.lax.stop_gradient(Past() if past is None else past)
    if groups == 1:
        out, covariance, a = core(rows, xc, count, past=past)
    else:
        out, covariance, a = jax.vmap(
            lambda rows, xc, past: core(rows, xc, count, past=past),
            in_axes=(1, 1, Past._make((0, None, 0, None))),
            out_axes=(1, 0, 0),
        )(split_groups(rows, groups), split_groups(xc, groups), past)
    return Whitened(out.reshape(x.shape).astype(x.dtype), Moments(mean, covariance), a)


def _core(rows, xc, count, *, past, rule, method, steps, axis_name):
    """Whitens one group: rows before and after centring to `(Z, covariance, a)`."""
    unit = jnp.finfo(xc.dtype).eps / 2
    scale = _pmax(jnp.max(jnp.abs(jax.lax.stop_gradient(xc))), axis_name)
    largest = _pmax(jnp.max(jnp.abs(jax.lax.stop_gradient(rows))), axis_name)
    # What is left after centring equal rows is rounding; whitening would amplify it.
    flat = scale <= 16 * unit * largest
    safe = jnp.where(flat, jnp.ones_like(scale), scale)
    if past.covariance is not None:
        past = past._replace(covariance=past.covariance.astype(xc.dtype) / safe / safe)
    scaled = jnp.where(flat, jnp.zeros_like(xc), xc / safe)
    batch = Batch(scaled, count, rule, past, axis_name)
    out, a = named(method, steps)(batch)
    second = variances(batch) if method == "batch_norm" else gram(batch.rows, axis_name)
    return out, second / count * safe * safe, a


def _pmax(x: jax.Array, axis_name: str | None) -> jax.Array:
    return x if axis_name is None else jax.lax.pmax(x, axis_name)


def whitening_matrix(
    covariance: jax.Array,
    *,
    method: str = "zca",
    shrinkage: float | jax.Array = 1e-2,
    steps: int | None = None,
) -> jax.Array:
    """The matrix that whitens with a given covariance, scale-free like `whiten`.

        W = ((1 - a) S + a (tr S / D) I)^(-1/2)    for ZCA,    Z = (X - mu) W

    Args:
      covariance: as `Moments.covariance` of the method and its groups.
      method: any of `METHODS` but "none"; "zca_svd" takes the root by `eigh` here.
      shrinkage: `a` in (0, 1], `[]`, or `[G]` for groups.
      steps: Newton-Schulz: number of steps; None iterates until rounding.

    Returns:
      `[D, D]`; `[G, D/G, D/G]` for groups; `[D]`, the diagonal, for "batch_norm". 0 where
      the covariance is 0.

    >>> whitening_matrix(jnp.eye(2) * 4, shrinkage=0.5).tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """
    one = partial(_matrix, method=method, steps=steps)
    shrinkage = jnp.asarray(shrinkage, covariance.dtype)
    if covariance.ndim == (1 if method == "batch_norm" else 2):
        return one(covariance, shrinkage)
    out = jax.vmap(one, in_axes=(0, 0 if shrinkage.ndim else None))(covariance, shrinkage)
    return out.reshape(-1) if method == "batch_norm" else out


def _matrix(covariance: jax.Array, a: jax.Array, *, method: str, steps: int | None) -> jax.Array:
    diagonal = method == "batch_norm"
    total = jnp.sum(covariance) if diagonal else jnp.trace(covariance)
    variance = total / covariance.shape[-1]
    flat = variance <= 0
    safe = jnp.where(flat, jnp.ones_like(variance), variance)
    scaled = (1 - a) * covariance / safe
    if diagonal:
        root = 1 / jnp.sqrt(scaled + a)
    elif method == "cholesky":
        lower = factor(scaled, a)
        eye = jnp.eye(covariance.shape[-1], dtype=covariance.dtype)
        root = jax.lax.linalg.triangular_solve(
            lower, eye, left_side=False, lower=True, transpose_a=True
        )
    else:
        kind = "newton_schulz" if method == "newton_schulz" else "eigh"
        root = inverse_sqrt(scaled, a, method=kind, steps=steps)
    root = root / jnp.sqrt(safe)
    return jnp.where(flat, jnp.zeros_like(root), root)


def apply_matrix(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """`W K`, `[D, C]`, for `W` in any form that `whitening_matrix` returns and `K` `[D, C]`."""
    if matrix.ndim == 1:
        return matrix[:, None] * right
    if matrix.ndim == 2:
        return matmul(matrix, right)
    blocks = right.reshape(matrix.shape[0], matrix.shape[1], -1)
    return jax.vmap(matmul)(matrix, blocks).reshape(right.shape)


def fold_into_dense(
    mean: jax.Array, matrix: jax.Array, kernel: jax.Array, bias: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Whitening in evaluation and a dense layer as one affine map.

        ((x - mu) W) K + b = x K' + b',    K' = W K,    b' = b - mu K'

    Args:
      mean: running mean `[D]`.
      matrix: `W` as `whitening_matrix` or `freeze` gives it.
      kernel: `K`, `[D, C]`.
      bias: `b`, `[C]`; None is 0.

    Returns:
      `(K', b')`, `[D, C]` and `[C]`.

    Source: ours.
    """
    folded = apply_matrix(matrix, kernel)
    shift = apply_matrix(mean[None, :], folded)[0]
    return folded, -shift if bias is None else bias - shift
