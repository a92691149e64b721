"""Whitening of a batch by each method behind one interface; pure functions free of Flax."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltjax.errors import InputError, require
from ltjax.whitening.moments import (
    Moments,
    centre,
    gram,
    matmul,
    promote,
    psum,
    split_groups,
)
from ltjax.whitening.roots import decorrelate, eigh, inverse_sqrt
from ltjax.whitening.shrinkage import RULES, check_shrinkage, intensity


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


class Past(NamedTuple):
    """What training remembers and whitens with; no gradient goes through it.

    Attributes:
      covariance: running covariance, in the shape of `Moments.covariance`, or None.
      share: its share `m` in the covariance that whitens: `(1 - m) S + m S_running`.
      shrinkage: running intensity, `[]` or `[G]`, which a rule's value updates, or None.
      rate: of that update.
    """

    covariance: jax.Array | None = None
    share: jax.Array | None = None
    shrinkage: jax.Array | None = None
    rate: jax.Array | None = None


class _Batch(NamedTuple):
    """One group's centred rows in units of their largest entry, and how to whiten them."""

    rows: jax.Array
    count: jax.Array
    rule: float | str
    past: Past
    axis_name: str | None

    @property
    def dual(self) -> bool:
        """Whether `N x N` is smaller and enough; a mixed covariance needs `D x D`."""
        devices = 1 if self.axis_name is None else jax.lax.axis_size(self.axis_name)
        return self.rows.shape[0] * devices < self.rows.shape[1] and self.past.covariance is None

    def gathered(self) -> "_Batch":
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
        a = intensity(self.rule, self.rows, self.count, product, self.axis_name)
        if self.past.shrinkage is None:
            return a
        old = self.past.shrinkage.astype(a.dtype)
        return old + self.past.rate * (a - old)

    def variance(self) -> jax.Array:
        """Mean variance of the channels, the unit of the ridge; 1 where there is none."""
        squares = psum(jnp.sum(self.rows * self.rows), self.axis_name)
        variance = squares / (self.count * self.rows.shape[1])
        old = self.past.covariance
        if old is not None:
            total = jnp.trace(old) if old.ndim == 2 else jnp.sum(old)
            variance += self.past.share * (total / old.shape[-1] - variance)
        return jnp.where(variance > 0, variance, jnp.ones_like(variance))

    def covariance(self, product: jax.Array) -> jax.Array:
        """The covariance to whiten with: the batch's, or mixed with the running one."""
        covariance = product / self.count
        if self.past.covariance is None:
            return covariance
        return covariance + self.past.share * (self.past.covariance - covariance)


def _zca(batch: _Batch, *, svd: bool = False):
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
        values, vectors = (1 - a) * singular**2 / batch.count, right.T
    else:
        assert product is not None
        values, vectors = eigh((1 - a) * whole.covariance(product))
    weight = (1 - a) / batch.count
    if batch.past.covariance is not None:
        weight *= 1 - batch.past.share
    out = decorrelate(rows, a * batch.variance(), weight, values, vectors, whole.axis_name)
    return batch.local(out.T if batch.dual else out), a


def _zca_svd(batch: _Batch):
    assert batch.past.covariance is None, "a mixed covariance has no rows to decompose"
    return _zca(batch, svd=True)


def _newton_schulz(batch: _Batch, *, steps: int | None):
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


def _cholesky(batch: _Batch):
    product = gram(batch.rows, batch.axis_name)
    a = batch.shrinkage(product)
    variance = batch.variance()
    factor = _factor((1 - a) * batch.covariance(product) / variance, a)
    out = jax.lax.linalg.triangular_solve(
        factor, batch.rows / jnp.sqrt(variance), left_side=False, lower=True, transpose_a=True
    )
    return out, a


def _factor(covariance: jax.Array, ridge: jax.Array) -> jax.Array:
    """Cholesky factor of a covariance of trace D plus a ridge that rounding cannot undo."""
    size = covariance.shape[-1]
    ridge = jnp.maximum(ridge, 2 * size * jnp.finfo(covariance.dtype).eps)
    eye = jnp.eye(size, dtype=covariance.dtype)
    return jax.lax.linalg.cholesky(covariance + ridge * eye, symmetrize_input=False)


def _batch_norm(batch: _Batch):
    a = batch.shrinkage(None)
    variances = (1 - a) * batch.covariance(_variances(batch)) + a * batch.variance()
    return batch.rows / jnp.sqrt(variances)[None, :], a


def _variances(batch: _Batch) -> jax.Array:
    return psum(jnp.sum(batch.rows**2, axis=0), batch.axis_name)


METHODS = ("zca", "zca_svd", "newton_schulz", "cholesky", "batch_norm", "none")


def _method(method: str, steps: int | None) -> Callable[[_Batch], tuple[jax.Array, jax.Array]]:
    """The function that whitens one group: to `(Z, a)`."""
    named = {
        "zca": _zca,
        "zca_svd": _zca_svd,
        "newton_schulz": partial(_newton_schulz, steps=steps),
        "cholesky": _cholesky,
        "batch_norm": _batch_norm,
    }
    return named[method]


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
            in_axes=(1, 1, Past(0, None, 0, None)),
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
    batch = _Batch(scaled, count, rule, past, axis_name)
    out, a = _method(method, steps)(batch)
    second = _variances(batch) if method == "batch_norm" else gram(batch.rows, axis_name)
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
        factor = _factor(scaled, a)
        eye = jnp.eye(covariance.shape[-1], dtype=covariance.dtype)
        root = jax.lax.linalg.triangular_solve(
            factor, eye, left_side=False, lower=True, transpose_a=True
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
