"""The methods: each whitens one group of a batch; pure functions free of Flax."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltjax.errors import FLAG, InputError, integer, number, number_or, one_of, option, require
from ltjax.whitening.moments import gram, matmul, psum
from ltjax.whitening.roots import decorrelate, eigh, inverse_sqrt
from ltjax.whitening.shrinkage import RULES, check_shrinkage, intensity


class Past(NamedTuple):
    """What training remembers and whitens with; no gradient goes through it.

    Attributes:
      covariance: running covariance, in the shape of `Moments.covariance`, or None.
      share: its share `m` in the covariance that whitens: `(1 - m) S + m S_running`.
      shrinkage: running intensity, `[]` or `[G]`, which a rule's value updates, or None.
      rate: of that update.
    """

    covariance: jax.Array | None = None
    share: jax.Array | float = 0.0
    shrinkage: jax.Array | None = None
    rate: jax.Array | float = 0.0


class Batch(NamedTuple):
    """One group's centred rows in units of their largest entry, and how to whiten them."""

    rows: jax.Array
    total: jax.Array
    rule: float | str
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
        if rows.shape[0] == self.rows.shape[0]:
            return rows
        start = jax.lax.axis_index(self.axis_name) * self.rows.shape[0]
        return jax.lax.dynamic_slice_in_dim(rows, start, self.rows.shape[0])

    def shrinkage(self, product: jax.Array | None) -> jax.Array:
        """The intensity `a`; `product` is `X^T X` or `X X^T`."""
        a = intensity(self.rule, self.rows, self.total, product, self.axis_name)
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


def _zca(batch: Batch, *, svd: bool = False):
    """ZCA by `eigh` on the smaller side, or by the SVD of the rows.

    `N < D` turns the rows over: `Xc (Xc^T Xc / N + a I)^(-1/2) = (Xc Xc^T / N + a I)^(-1/2) Xc`.
    Over a mapped axis the dual side and the SVD gather the rows, which is exact and cheap
    where N < D; the primal side sums covariances.
    """
    whole = batch.gathered() if batch.dual or svd else batch
    rows = whole.rows.T if batch.dual else whole.rows
    estimated = batch.rule in RULES[1:] if isinstance(batch.rule, str) else False
    product = None if svd and not estimated else gram(rows, whole.axis_name)
    a = whole.shrinkage(product)
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


def _zca_svd(batch: Batch):
    assert batch.past.covariance is None, "a mixed covariance has no rows to decompose"
    return _zca(batch, svd=True)


def _newton_schulz(batch: Batch, *, steps: int | None):
    """ZCA by matrix products alone, on the smaller side."""
    whole = batch.gathered() if batch.dual else batch
    rows = whole.rows.T if batch.dual else whole.rows
    product = gram(rows, whole.axis_name)
    a = whole.shrinkage(product)
    variance = batch.variance()
    scaled = (1 - a) * whole.covariance(product) / variance
    root = inverse_sqrt(scaled, a, method="newton_schulz", steps=steps)
    out = matmul(rows, root) / jnp.sqrt(variance)
    return batch.local(out.T if batch.dual else out), a


def _cholesky(batch: Batch):
    product = gram(batch.rows, batch.axis_name)
    a = batch.shrinkage(product)
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


def _batch_norm(batch: Batch):
    a = batch.shrinkage(None)
    ridged = (1 - a) * batch.covariance(variances(batch)) + a * batch.variance()
    return batch.rows / jnp.sqrt(ridged)[None, :], a


def variances(batch: Batch) -> jax.Array:
    return psum(jnp.sum(batch.rows**2, axis=0), batch.axis_name)


METHODS = ("zca", "zca_svd", "newton_schulz", "cholesky", "batch_norm", "none")


def named(method: str, steps: int | None) -> Callable[[Batch], tuple[jax.Array, jax.Array]]:
    """The function that whitens one group: to `(Z, a)`."""
    table: dict[str, Callable[[Batch], tuple[jax.Array, jax.Array]]] = {
        "zca": _zca,
        "zca_svd": _zca_svd,
        "newton_schulz": partial(_newton_schulz, steps=steps),
        "cholesky": _cholesky,
        "batch_norm": _batch_norm,
    }
    return table[method]


def check_options(
    size: int, *, method: str, shrinkage: object, groups: int, steps: int | None
) -> None:
    """Refuses options that no batch could be whitened with.

    Raises:
      InputError: naming the option, its value and what is allowed.
    """
    require(method in METHODS, "method", method, "one of " + ", ".join(METHODS))
    check_shrinkage(shrinkage)
    if method == "batch_norm" and shrinkage in RULES[1:]:
        raise InputError(
            f"shrinkage = {shrinkage!r} is not allowed with method batch_norm, which has no full "
            "covariance to estimate it from; use a number or auto"
        )
    require(
        groups >= 1 and size % groups == 0, "groups", groups, f"a divisor of the {size} channels"
    )
    require(steps is None or steps >= 1, "steps", steps, "an integer >= 1, or None")


@dataclasses.dataclass(frozen=True)
class WhiteningConfig:
    """What a configuration says of the whitening before the classifier."""

    method: str = option("auto", one_of("auto", *METHODS), "before the classifier")
    shrinkage: float | str = option(
        0.1, number_or(number(0, 1, open_low=True), *RULES), "relative ridge; auto is D / (D + 2 N)"
    )
    momentum: float = option(0.9, number(0, 0.9999), "of the running covariance")
    groups: int = option(1, integer(1), "of channels, whitened separately")
    memory: float = option(0.0, number(0, 0.9999), "share of the running covariance in training")
    standardize: bool = option(
        False, FLAG, "divide channels by their standard deviation before they are whitened"
    )
    stats_every: int = option(1, integer(1), "steps between updates of the running values")
    steps: int | None = option(None, integer(1), "of newton_schulz; None: until rounding")
