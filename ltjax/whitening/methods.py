"""The whitening methods, each for one group of channels of a batch; pure functions."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

from ltjax.errors import InputError, Option, one_of, require
from ltjax.whitening.batch import Batch
from ltjax.whitening.moments import gram, matmul, psum
from ltjax.whitening.newton_schulz import STEPS
from ltjax.whitening.roots import decorrelate, eigh, inverse_sqrt
from ltjax.whitening.shrinkage import ESTIMATES, FLOOR, SHRINKAGE

# The whitened rows and the intensity `a` that was used.
Result = tuple[jax.Array, jax.Array]
T = TypeVar("T")
# TPU's `eigh` is Jacobi's up to this size. Above it is QDWH, which takes minutes to compile
# (https://github.com/jax-ml/jax/issues/28315); there the root comes from products alone.
TPU_JACOBI = 256
# There a product in full float32 precision is slow to compile, and several in one program are
# slower than each alone; in turns of a loop, of so many rows, they are not.
TPU_BLOCK = 128


def _by_platform(size: int, decomposed: Callable[[], T], by_products: Callable[[], T]) -> T:
    """What suits the platform for a matrix of `size` rows."""
    if size <= TPU_JACOBI:
        return decomposed()
    found: T = jax.lax.platform_dependent(tpu=by_products, default=decomposed)
    return found


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
        values, vectors = eigh((1 - a) * whole.covariance(product), native=whole.native)
    weight = (1 - a) / batch.total
    if batch.past.covariance is not None:
        weight = weight * (1 - batch.past.share)
    out = decorrelate(rows, a * batch.variance(), weight, values, vectors, whole.axis_name)
    return batch.local(out.T if batch.dual else out), a


def zca(batch: Batch) -> Result:
    """ZCA: the symmetric root, by `eigh` of the smaller of `X^T X` and `X X^T`.

    On TPU, where that has more than 256 rows, it is `newton_schulz`, which is as exact.

    Args:
      batch: the rows and how to whiten them.

    Returns:
      `(Z, a)`: whitened rows `[N, D]` and the intensity of the shrinkage `[]`.

    Source: Huang et al. (CVPR 2018), https://arxiv.org/abs/1804.08450; choosing the smaller matrix
    is ours.
    """
    tiny = not isinstance(batch.shrinkage, str) and batch.shrinkage < FLOOR
    return _by_platform(
        0 if tiny else batch.side,
        lambda: _by_decomposition(batch, svd=False),
        lambda: _by_products(batch._replace(steps=None, block=TPU_BLOCK)),
    )


def zca_svd(batch: Batch) -> Result:
    """ZCA by an SVD of the rows, which does not square the condition number.

    Args:
      batch: the rows and how to whiten them.

    Returns:
      `(Z, a)`: whitened rows `[N, D]` and the intensity of the shrinkage `[]`.

    Source: ours.
    """
    assert batch.past.covariance is None, "a mixed covariance has no rows to decompose"
    return _by_decomposition(batch, svd=True)


def newton_schulz(batch: Batch) -> Result:
    """ZCA by matrix products alone, on the smaller of `X^T X` and `X X^T`.

    Args:
      batch: the rows and how to whiten them.

    Returns:
      `(Z, a)`: whitened rows `[N, D]` and the intensity of the shrinkage `[]`.

    Source: Huang et al. (CVPR 2019), https://arxiv.org/abs/1904.03441, but with the coupled
    iteration of `ltjax.whitening.newton_schulz`.
    """
    return _by_platform(
        batch.side,
        lambda: _by_products(batch),
        lambda: _by_products(batch._replace(block=TPU_BLOCK)),
    )


def _by_products(batch: Batch) -> Result:
    whole = batch.gathered() if batch.dual else batch
    rows = whole.rows.T if batch.dual else whole.rows
    product = gram(rows, whole.axis_name, block=batch.block)
    a = whole.intensity(product)
    variance = batch.variance()
    scaled = (1 - a) * whole.covariance(product) / variance
    root = inverse_sqrt(scaled, a, method="newton_schulz", steps=batch.steps, block=batch.block)
    out = matmul(rows, root, block=batch.block) / jnp.sqrt(variance)
    return batch.local(out.T if batch.dual else out), a


def cholesky(batch: Batch) -> Result:
    """Whitening by a triangular root; the result is white, but not ZCA.

    Args:
      batch: the rows and how to whiten them.

    Returns:
      `(Z, a)`: whitened rows `[N, D]` and the intensity of the shrinkage `[]`.

    Source: Kessy et al., https://arxiv.org/abs/1512.00809, for its comparison with ZCA.
    """
    product = gram(batch.rows, batch.axis_name)
    a = batch.intensity(product)
    variance = batch.variance()
    lower = factor((1 - a) * batch.covariance(product) / variance, a)
    out = jax.lax.linalg.triangular_solve(
        lower, batch.rows / jnp.sqrt(variance), left_side=False, lower=True, transpose_a=True
    )
    return out, a


def factor(covariance: jax.Array, ridge: jax.Array) -> jax.Array:
    """Cholesky factor of a covariance plus a ridge.

    The ridge is at least a multiple of the rounding error, so that the factor exists.

    Args:
      covariance: `[D, D]`, of mean variance at most 1.
      ridge: `a >= 0`, `[]`.

    Returns:
      `L`, `[D, D]`, lower triangular.

    Source: ours.
    """
    size = covariance.shape[-1]
    ridge = jnp.maximum(ridge, 2 * size * jnp.finfo(covariance.dtype).eps)
    eye = jnp.eye(size, dtype=covariance.dtype)
    return jax.lax.linalg.cholesky(covariance + ridge * eye, symmetrize_input=False)


def batch_norm(batch: Batch) -> Result:
    """Divides every channel by its standard deviation; correlations stay.

    Args:
      batch: the rows and how to whiten them.

    Returns:
      `(Z, a)`: rows `[N, D]` of unit variances and the intensity of the shrinkage `[]`.

    Source: Ioffe and Szegedy, Batch Normalization (ICML 2015), https://arxiv.org/abs/1502.03167
    """
    a = batch.intensity(None)
    ridged = (1 - a) * batch.covariance(variances(batch)) + a * batch.variance()
    return batch.rows / jnp.sqrt(ridged)[None, :], a


def variances(batch: Batch) -> jax.Array:
    """Sums of squares of the channels over the whole batch.

    Args:
      batch: the rows.

    Returns:
      `[D]`.

    Source: ours.
    """
    return psum(jnp.sum(batch.rows**2, axis=0), batch.axis_name)


# The function of each method.
WHITENINGS: dict[str, Callable[[Batch], Result]] = {
    "zca": zca,
    "zca_svd": zca_svd,
    "newton_schulz": newton_schulz,
    "cholesky": cholesky,
    "batch_norm": batch_norm,
}


def _symmetric(covariance: jax.Array, a: jax.Array, steps: int | None) -> jax.Array:
    return _by_platform(
        len(covariance),
        lambda: inverse_sqrt(covariance, a),
        lambda: _root_by_products(covariance, jnp.maximum(a, FLOOR), None, TPU_BLOCK),
    )


def _symmetric_by_products(covariance: jax.Array, a: jax.Array, steps: int | None) -> jax.Array:
    return _by_platform(
        len(covariance),
        lambda: _root_by_products(covariance, a, steps, None),
        lambda: _root_by_products(covariance, a, steps, TPU_BLOCK),
    )


def _root_by_products(
    covariance: jax.Array, a: jax.Array, steps: int | None, block: int | None
) -> jax.Array:
    return inverse_sqrt(covariance, a, method="newton_schulz", steps=steps, block=block)


def _triangular(covariance: jax.Array, a: jax.Array, steps: int | None) -> jax.Array:
    eye = jnp.eye(covariance.shape[-1], dtype=covariance.dtype)
    return jax.lax.linalg.triangular_solve(
        factor(covariance, a), eye, left_side=False, lower=True, transpose_a=True
    )


def _diagonal(covariance: jax.Array, a: jax.Array, steps: int | None) -> jax.Array:
    return 1 / jnp.sqrt(covariance + a)


# The whitening matrix of each method, from `(1 - a) S` of mean variance `1 - a`, the ridge `a` and
# the steps. A running covariance has no rows to decompose, so "zca_svd" uses `eigh` here.
MATRICES: dict[str, Callable[[jax.Array, jax.Array, int | None], jax.Array]] = {
    "zca": _symmetric,
    "zca_svd": _symmetric,
    "newton_schulz": _symmetric_by_products,
    "cholesky": _triangular,
    "batch_norm": _diagonal,
}

# Methods that need only the variances, `[D]` instead of `[D, D]`.
DIAGONAL = ("batch_norm",)

METHOD = Option(
    "zca", one_of(*WHITENINGS, "none"), "whitening method; none leaves the features as they are"
)


def check_options(
    size: int, *, method: str, shrinkage: float | str, groups: int, steps: int | None
) -> None:
    """Refuses options with which no batch could be whitened.

    Args:
      size: D, number of channels.
      method: see `whiten`.
      shrinkage: see `whiten`.
      groups: see `whiten`.
      steps: see `whiten`.

    Raises:
      InputError: naming the option, its value and what is allowed.

    Source: ours.
    """
    METHOD.check("method", method)
    SHRINKAGE.check("shrinkage", shrinkage)
    if method in DIAGONAL and shrinkage in ESTIMATES:
        raise InputError(
            f"shrinkage = {shrinkage!r} is not allowed with method {method}, which has no full "
            "covariance to estimate it from; use a number or auto"
        )
    if method == "newton_schulz" and not isinstance(shrinkage, str) and shrinkage < FLOOR:
        raise InputError(
            f"shrinkage = {shrinkage!r} is not allowed with method newton_schulz, which diverges "
            f"if there are fewer rows than channels; use a number >= {FLOOR:g} and <= 1, or zca"
        )
    require(
        groups >= 1 and size % groups == 0, "groups", groups, f"a divisor of the {size} channels"
    )
    STEPS.check("steps", steps)
