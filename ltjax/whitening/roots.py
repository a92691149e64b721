"""Inverse square roots of covariances, and whitening as a pure function.

The derivative of the root is the closed form of the Loewner matrix, so it is finite for
repeated eigenvalues, where the autodiff of `eigh` divides by their difference.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltjax.whitening.moments import HIGHEST, Moments, centre, promote, second_moment


class Whitened(NamedTuple):
    """Whitened rows `[N, D]` in the input dtype and the moments they were made with."""

    output: jax.Array
    moments: Moments


def _matmul(*factors: jax.Array) -> jax.Array:
    out = factors[0]
    for factor in factors[1:]:
        out = jnp.matmul(out, factor, precision=HIGHEST)
    return out


def _spectrum(matrix: jax.Array, ridge: float) -> tuple[jax.Array, jax.Array]:
    """Square roots of the ridged eigenvalues, ascending, and the eigenvectors."""
    values, vectors = jnp.linalg.eigh((matrix + matrix.T) / 2)
    # Rounding can leave eigenvalues slightly negative: clip before the ridge, not after,
    # so that a singular direction gets exactly the ridge.
    return jnp.sqrt(jnp.maximum(values, 0) + ridge), vectors


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def inverse_sqrt(covariance: jax.Array, ridge: float = 0.0) -> jax.Array:
    """Symmetric inverse square root of a positive semi-definite matrix.

        (S + a I)^(-1/2) = U diag((max(l, 0) + a)^(-1/2)) U^T,    S = U diag(l) U^T

    The derivative is exact and finite whenever the ridged eigenvalues are positive:

        d(S^(-1/2)) = U (K * (U^T dS U)) U^T,    K_ij = -1 / (s_i s_j (s_i + s_j)),

    with `s = sqrt(l + a)`, the divided differences of `l^(-1/2)` without a quotient of
    differences. Forward and reverse mode, `vmap` and collectives follow from it.

    Args:
      covariance: `[D, D]`, symmetric, float32 or wider.
      ridge: `a >= 0`, added to every eigenvalue.

    Returns:
      `[D, D]`, symmetric.

    Source: Ionescu et al. (2015) for the Loewner form of spectral functions; Huang et al.
    (2018) for its use in whitening; the closed form without differences is ours.

    >>> inverse_sqrt(jnp.diag(jnp.array([4.0, 16.0]))).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    roots, vectors = _spectrum(covariance, ridge)
    return _matmul(vectors / roots[None, :], vectors.T)


@inverse_sqrt.defjvp
def _inverse_sqrt_jvp(ridge, primals, tangents):
    roots, vectors = _spectrum(primals[0], ridge)
    outer = roots[:, None] * roots[None, :]
    loewner = -1 / (outer * (roots[:, None] + roots[None, :]))
    tangent = (tangents[0] + tangents[0].T) / 2
    inner = loewner * _matmul(vectors.T, tangent, vectors)
    out = _matmul(vectors / roots[None, :], vectors.T)
    return out, _matmul(vectors, inner, vectors.T)


def whiten(
    x: jax.Array,
    *,
    shrinkage: float = 1e-2,
    mask: jax.Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """ZCA-whitens a batch with its own statistics.

        Z = (X - mu) ((1 - a) S + a (tr S / D) I)^(-1/2)

    Args:
      x: features `[N, D]`, any float dtype.
      shrinkage: `a` in (0, 1]; relative to the mean variance, so `Z` does not depend on
        the scale of `x`.
      mask: bool `[N]`; padded rows do not enter the statistics and come out as 0.
      axis_name: mapped axis over which the batch is spread.

    Returns:
      `[N, D]` in the dtype of `x`. All rows equal give 0 with gradient 0; NaN propagates.

    Source: Zhang, arXiv 2112.05958 and 2408.17197 (whitening before the classifier);
    Huang et al. (2018) (batch ZCA); the relative ridge is ours.
    """
    return whiten_batch(x, shrinkage=shrinkage, mask=mask, axis_name=axis_name).output


def whiten_batch(
    x: jax.Array,
    *,
    shrinkage: float = 1e-2,
    mask: jax.Array | None = None,
    axis_name: str | None = None,
) -> Whitened:
    """`whiten`, together with the moments of the batch; same arguments."""
    wide = promote(x)
    xc, mean, count = centre(wide, mask=mask, axis_name=axis_name)
    unit = jnp.finfo(wide.dtype).eps / 2
    rows = wide if mask is None else jnp.where(mask[:, None], wide, jnp.zeros_like(wide))
    scale = _pmax(jnp.max(jnp.abs(jax.lax.stop_gradient(xc))), axis_name)
    largest = _pmax(jnp.max(jnp.abs(jax.lax.stop_gradient(rows))), axis_name)
    # What is left after centring equal rows is rounding; whitening would amplify it.
    flat = scale <= 16 * unit * largest
    safe = jnp.where(flat, jnp.ones_like(scale), scale)
    xs = jnp.where(flat, jnp.zeros_like(xc), xc / safe)
    covariance = second_moment(xs, count, axis_name=axis_name)
    variance = jnp.trace(covariance) / wide.shape[-1]
    variance = jnp.where(flat, jnp.ones_like(variance), variance)
    root = inverse_sqrt((1 - shrinkage) * covariance / variance, shrinkage)
    output = _matmul(xs / jnp.sqrt(variance), root)
    return Whitened(output.astype(x.dtype), Moments(mean, covariance * safe * safe))


def _pmax(x: jax.Array, axis_name: str | None) -> jax.Array:
    return x if axis_name is None else jax.lax.pmax(x, axis_name)


def whitening_matrix(covariance: jax.Array, *, shrinkage: float = 1e-2) -> jax.Array:
    """The matrix that whitens with a given covariance, scale-free like `whiten`.

        ((1 - a) S + a (tr S / D) I)^(-1/2)

    Args:
      covariance: `[D, D]`, float32 or wider.
      shrinkage: `a` in (0, 1].

    Returns:
      `[D, D]`; 0 where the covariance is 0.
    """
    variance = jnp.trace(covariance) / covariance.shape[-1]
    flat = variance <= 0
    safe = jnp.where(flat, jnp.ones_like(variance), variance)
    root = inverse_sqrt((1 - shrinkage) * covariance / safe, shrinkage) / jnp.sqrt(safe)
    return jnp.where(flat, jnp.zeros_like(root), root)
