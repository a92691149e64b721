"""The methods: each whitens one group of channels of a batch; pure functions, free of Flax."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltjax.errors import InputError, Option, one_of, require
from ltjax.whitening.moments import gram, matmul, psum
from ltjax.whitening.newton_schulz import STEPS
from ltjax.whitening.roots import decorrelate, eigh, inverse_sqrt
from ltjax.whitening.shrinkage import ESTIMATES, SHRINKAGE, intensity


class Past(NamedTuple):
    """Running statistics that take part in training; no gradient goes through them.

    Attributes:
      covariance: running covariance, in the shape of `Moments.covariance`, or None.
      share: its share `m` in the covariance that whitens: `(1 - m) S + m S_running`.
      shrinkage: running intensity, `[]` or `[G]`, which the batch's updates, or None.
      rate: rate of that update.
    """

    covariance: jax.Array | None = None
    share: jax.Array | float = 0.0
    shrinkage: jax.Array | None = None
    rate: jax.Array | float = 0.0


class Batch(NamedTuple):
    """One group's centered rows in units of their largest entry, and how to whiten them.

    Attributes:
      rows: `[N, D]`, those of this device; padded rows are 0.
      total: number of rows of the whole batch, without padding.
      shrinkage: a number or the name of a rule.
      steps: number of Newton-Schulz steps; None iterates until rounding.
      past: running statistics that take part.
      axis_name: mapped axis over which the batch is spread.
    """

    rows: jax.Array
    total: jax.Array
    shrinkage: float | str
    steps: int | None
    past: Past
    axis_name: str | None

    @property
    def dual(self) -> bool:
        """Whether `N x N` is smaller and enough; a mixed covariance needs `D x D`."""
        devices = 1 if self.axis_name is None else jax.lax.axis_size(self.axis_name)
        return self.rows.shape[0] * devices < self.rows.shape[1] and self.past.covariance is None

    def gathered(self) -> "Batch":
        """The rows of all devices, on each."""
        if self.axis_name is None:
            return self
        rows = jax.lax.all_gather(self.rows, self.axis_name, tiled=True)
        return self._replace(rows=rows, axis_name=None)

    def local(self, rows: jax.Array) -> jax.Array:
        """This device's part of what was computed for the rows of all devices."""
        if self.axis_name is None or rows.shape[0] == self.rows.shape[0]:
            return rows
        start = jax.lax.axis_index(self.axis_name) * self.rows.shape[0]
        return jax.lax.dynamic_slice_in_dim(rows, start, self.rows.shape[0])

    def intensity(self, product: jax.Array | None) -> jax.Array:
        """The intensity `a`; `product` is `X^T X` or `X X^T`."""
        a = intensity(self.shrinkage, self.rows, self.total, product, self.axis_name)
        if self.past.shrinkage is None:
            return a
        old = self.past.shrinkage.astype(a.dtype)
        return old + self.past.rate * (a - old)

    def variance(self) -> jax.Array:
        """Mean variance of the channels, the unit of the ridge; 1 where there is none."""
        squares = psum(jnp.sum(self.rows * self.rows), self.axis_name)
        variance = squares / (self.total * self.rows.shape[1])
        old = self.past.covariance
        if old is not None:
            total = jnp.trace(old) if old.ndim == 2 else jnp.sum(old)
            variance += self.past.share * (total / old.shape[-1] - variance)
        return jnp.where(variance > 0, variance, jnp.ones_like(variance))

    def covariance(self, product: jax.Array) -> jax.Array:
        """The covariance to whiten with: the batch's, or mixed with the running one."""
        covariance = product / self.total
        if self.past.covariance is None:
            return covariance
        return covariance + self.past.share * (self.past.covariance - covariance)


# The whitened rows and the intensity `a` that was used.
Result = tuple[jax.Array, jax.Array]


def _by_decomposition(batch: Batch, *, svd: bool) -> Result:
    """ZCA by `eigh` on the smaller side, or by the SVD of the rows.

    With `N < D` the rows are transposed:
    `Xc (Xc^T Xc / N + a I)^(-1/2) = (Xc Xc^T / N + a I)^(-1/2) Xc`. Over a mapped axis the dual
    side and the SVD gather the rows, which is exact and cheap where N < D; the primal side sums
    covariances.
    """
    whole = batch.gathered() if batch.dual or svd else batch
    rows = whole.rows.T if batch.dual else whole.rows
    product = None if svd and batch.shrinkage not in ESTIMATES else gram(rows, whole.axis_name)
    a = whole.intensity(product)
    if svd:
        _, singular, right = jnp.linalg.svd(jax.lax.stop_gradient(rows), full_matrices=False)
        values, vectors = (1 - a) * singular**2 / batch.total, right.T
    else:
        assert product is not None
        values, vectors = eigh((1 - a) * whole.covariance(product))
    weight = (1 - a) / batch.total
    if batch.past.covariance is not None:
        weight = weight * (1 - batch.past.share)
    out = decorrelate(rows, a * batch.variance(), weight, values, vectors, whole.axis_name)
    return batch.local(out.T if batch.dual else out), a


def zca(batch: Batch) -> Result:
    """The symmetric root, by `eigh` of the smaller of `D x D` and `N x N`."""
    return _by_decomposition(batch, svd=False)


def zca_svd(batch: Batch) -> Result:
    """The same by an SVD of the rows, which does not square the condition number."""
    assert batch.past.covariance is None, "a mixed covariance has no rows to decompose"
    return _by_decomposition(batch, svd=True)


def newton_schulz(batch: Batch) -> Result:
    """The symmetric root by matrix products alone, on the smaller side."""
    whole = batch.gathered() if batch.dual else batch
    rows = whole.rows.T if batch.dual else whole.rows
    product = gram(rows, whole.axis_name)
    a = whole.intensity(product)
    variance = batch.variance()
    scaled = (1 - a) * whole.covariance(product) / variance
    root = inverse_sqrt(scaled, a, method="newton_schulz", steps=batch.steps)
    out = matmul(rows, root) / jnp.sqrt(variance)
    return batch.local(out.T if batch.dual else out), a


def cholesky(batch: Batch) -> Result:
    """A triangular root: white, but not ZCA."""
    product = gram(batch.rows, batch.axis_name)
    a = batch.intensity(product)
    variance = batch.variance()
    lower = factor((1 - a) * batch.covariance(product) / variance, a)
    out = jax.lax.linalg.triangular_solve(
        lower, batch.rows / jnp.sqrt(variance), left_side=False, lower=True, transpose_a=True
    )
    return out, a


def factor(covariance: jax.Array, ridge: jax.Array) -> jax.Array:
    """Cholesky factor of a covariance of trace D plus a ridge that rounding cannot undo."""
    size = covariance.shape[-1]
    ridge = jnp.maximum(ridge, 2 * size * jnp.finfo(covariance.dtype).eps)
    eye = jnp.eye(size, dtype=covariance.dtype)
    return jax.lax.linalg.cholesky(covariance + ridge * eye, symmetrize_input=False)


def batch_norm(batch: Batch) -> Result:
    """Unit variances; correlations stay."""
    a = batch.intensity(None)
    ridged = (1 - a) * batch.covariance(variances(batch)) + a * batch.variance()
    return batch.rows / jnp.sqrt(ridged)[None, :], a


def variances(batch: Batch) -> jax.Array:
    """Sums of squares of the channels over the whole batch, `[D]`."""
    return psum(jnp.sum(batch.rows**2, axis=0), batch.axis_name)


# What whitens one group of a batch.
WHITENINGS: dict[str, Callable[[Batch], Result]] = {
    "zca": zca,
    "zca_svd": zca_svd,
    "newton_schulz": newton_schulz,
    "cholesky": cholesky,
    "batch_norm": batch_norm,
}


def _symmetric(covariance: jax.Array, a: jax.Array, steps: int | None) -> jax.Array:
    return inverse_sqrt(covariance, a)


def _symmetric_by_products(covariance: jax.Array, a: jax.Array, steps: int | None) -> jax.Array:
    return inverse_sqrt(covariance, a, method="newton_schulz", steps=steps)


def _triangular(covariance: jax.Array, a: jax.Array, steps: int | None) -> jax.Array:
    eye = jnp.eye(covariance.shape[-1], dtype=covariance.dtype)
    return jax.lax.linalg.triangular_solve(
        factor(covariance, a), eye, left_side=False, lower=True, transpose_a=True
    )


def _diagonal(covariance: jax.Array, a: jax.Array, steps: int | None) -> jax.Array:
    return 1 / jnp.sqrt(covariance + a)


# The same as a matrix: from `(1 - a) S` of mean variance `1 - a`, the ridge `a` and the steps. A
# running covariance has no rows, so "zca_svd" takes its root by `eigh`.
MATRICES: dict[str, Callable[[jax.Array, jax.Array, int | None], jax.Array]] = {
    "zca": _symmetric,
    "zca_svd": _symmetric,
    "newton_schulz": _symmetric_by_products,
    "cholesky": _triangular,
    "batch_norm": _diagonal,
}

# Methods that need variances alone: `[D]` instead of `[D, D]`.
DIAGONAL = ("batch_norm",)

METHOD = Option("zca", one_of(*WHITENINGS, "none"), "method; none leaves the features as they are")


def check_options(
    size: int, *, method: str, shrinkage: float | str, groups: int, steps: int | None
) -> None:
    """Refuses options that no batch could be whitened with.

    Args:
      size: D, number of channels.
      method: see `whiten`, as the arguments below.
      shrinkage: see there.
      groups: see there.
      steps: see there.

    Raises:
      InputError: naming the option, its value and what is allowed.
    """
    METHOD.check("method", method)
    SHRINKAGE.check("shrinkage", shrinkage)
    if method in DIAGONAL and shrinkage in ESTIMATES:
        raise InputError(
            f"shrinkage = {shrinkage!r} is not allowed with method {method}, which has no full "
            "covariance to estimate it from; use a number or auto"
        )
    require(
        groups >= 1 and size % groups == 0, "groups", groups, f"a divisor of the {size} channels"
    )
    STEPS.check("steps", steps)
