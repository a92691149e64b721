"""Conditioning of the softmax classifier: the Hessian of cross entropy in its weights."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, cg, eigsh
from scipy.special import softmax

from ltjax.errors import InputError, require

EXACT_UP_TO = 1500
# Relative accuracy of an eigenvalue found by Lanczos, and relative residual of a solved system.
EIGENVALUE_TOLERANCE = 1e-3
SOLVE_TOLERANCE = 1e-6
_BLOCK = 1 << 22  # numbers that the dense Hessian holds of the examples at once: 32 MiB


class Conditioning(NamedTuple):
    """Conditioning of a Hessian on the complement of its null space.

    Attributes:
      largest: its largest eigenvalue.
      smallest: its smallest eigenvalue.
      condition_number: their ratio.
      exact: whether they were computed from the dense Hessian, not by Lanczos iterations.
    """

    largest: float
    smallest: float
    condition_number: float
    exact: bool


def hessian_product(features: jax.Array, probabilities: jax.Array, v: jax.Array) -> jax.Array:
    """`H v` for the Hessian of mean cross entropy in the classifier's weights.

        H = E[(diag(p) - p p^T) (x) x x^T],    (H v) = X^T R / N,
        R = P * (Xv) - P * rowsum(P * Xv)

    Args:
      features: float `[N, D]`, inputs of the classifier.
      probabilities: float `[N, C]`, its softmax outputs.
      v: float `[D, C]`.

    Returns:
      float `[D, C]`.

    Source: Boehning, Multinomial logistic regression algorithm (Annals of the Institute of
    Statistical Mathematics, 1992), https://doi.org/10.1007/BF00048682.

    >>> x, p = jnp.ones((1, 1)), jnp.full((1, 2), 0.5)
    >>> hessian_product(x, p, jnp.array([[1.0, 0.0]])).tolist()
    [[0.25, -0.25]]
    """
    high = jax.lax.Precision.HIGHEST
    weighed = probabilities * jnp.matmul(features, v, precision=high)
    residual = weighed - probabilities * weighed.sum(axis=1, keepdims=True)
    return jnp.matmul(features.T, residual, precision=high) / features.shape[0]


def _range_basis(features: np.ndarray) -> np.ndarray:
    """Orthonormal basis `[D, r]` of the span of the features' rows."""
    left, values, _ = np.linalg.svd(features.T @ features)
    top = values[0] if len(values) else 0.0
    return left[:, values > max(top, np.finfo(float).tiny) * 1e-10]


def _class_basis(classes: int) -> np.ndarray:
    """Orthonormal basis `[C, C - 1]` of what is orthogonal to the vector of ones."""
    full, _ = np.linalg.qr(np.column_stack([np.ones(classes), np.eye(classes)[:, :-1]]))
    return full[:, 1:]


def conditioning(
    features: np.ndarray, logits: np.ndarray, *, exact: bool | None = None, iterations: int = 300
) -> Conditioning:
    """Condition number of the Hessian of cross entropy on the complement of its null space.

    The null space is known: the same vector added to every class's weights, and directions that no
    feature has. On the rest the Hessian is positive definite. Up to `EXACT_UP_TO` rows it is
    computed as a dense matrix. Above, its largest eigenvalue comes from Lanczos iterations
    (ARPACK), its smallest from Lanczos iterations on the inverse, which preconditioned conjugate
    gradients apply.

    Args:
      features: float `[N, D]`, inputs of the classifier.
      logits: float `[N, C]`.
      exact: dense or Lanczos; None decides by size.
      iterations: largest number of restarts of the Lanczos iteration.

    Returns:
      The ends of the spectrum and their ratio.

    Raises:
      InputError: fewer than two classes, features that are all 0, or no convergence.

    Source: ours, for the conditioning that https://arxiv.org/abs/2408.17197 describes; ARPACK:
    Lehoucq, Sorensen and Yang (1998), https://doi.org/10.1137/1.9780898719628.

    >>> x, z = np.eye(2), np.zeros((2, 2))
    >>> round(conditioning(x, z).condition_number, 6)
    1.0
    """
    x = np.asarray(features, np.float64)
    require(np.shape(logits)[1] >= 2, "classes", np.shape(logits)[1], "at least 2")
    require(bool(np.any(x)), "features", "all 0", "features that are not all 0")
    p = softmax(np.asarray(logits, np.float64), axis=1)
    basis, of_classes = _range_basis(x), _class_basis(p.shape[1])
    reduced = x @ basis
    rows, columns = reduced.shape[1], of_classes.shape[1]
    if exact is None:
        exact = rows * columns <= EXACT_UP_TO
    if exact or rows * columns < 2:  # ARPACK needs two rows
        values = np.linalg.eigvalsh(_dense(reduced, p, of_classes))
        return Conditioning(*_ends(values), True)

    hessian = _operator(reduced, p, of_classes)
    of_channels, of_pairs = _kronecker_inverse(reduced, p, of_classes)

    def roughly_solve(b: np.ndarray) -> np.ndarray:
        return (of_channels @ b.reshape(rows, columns) @ of_pairs).ravel()

    rough = LinearOperator(hessian.shape, matvec=roughly_solve, dtype=np.float64)

    def solve(b: np.ndarray) -> np.ndarray:
        found, failed = cg(hessian, b.ravel(), rtol=SOLVE_TOLERANCE, maxiter=5000, M=rough)
        if failed:
            raise InputError(_NO_CONVERGENCE)
        return found

    inverse = LinearOperator(hessian.shape, matvec=solve, dtype=np.float64)
    largest = _largest_eigenvalue(hessian, iterations)
    smallest = 1 / _largest_eigenvalue(inverse, iterations)
    return Conditioning(largest, smallest, largest / smallest, False)


_NO_CONVERGENCE = (
    "the condition number of the Hessian did not converge: the features are nearly dependent; "
    "use fewer channels, or exact=True"
)


def _operator(x: np.ndarray, p: np.ndarray, of_classes: np.ndarray) -> LinearOperator:
    """The Hessian in the bases as a map, `[r (C-1), r (C-1)]`."""
    rows, columns = x.shape[1], of_classes.shape[1]

    def apply(v: np.ndarray) -> np.ndarray:
        full = v.reshape(rows, columns) @ of_classes.T
        weighed = p * (x @ full)
        residual = weighed - p * weighed.sum(axis=1, keepdims=True)
        return (x.T @ residual @ of_classes / len(x)).ravel()

    return LinearOperator((rows * columns, rows * columns), matvec=apply, dtype=np.float64)


def _largest_eigenvalue(operator: LinearOperator, iterations: int) -> float:
    start = np.random.default_rng(0).normal(size=operator.shape[0])
    try:
        (value,) = eigsh(
            operator,
            k=1,
            which="LA",
            v0=start,
            maxiter=iterations,
            tol=EIGENVALUE_TOLERANCE,
            return_eigenvectors=False,
        )
    except ArpackNoConvergence as e:
        raise InputError(_NO_CONVERGENCE) from e
    return float(value)


def _ends(values: np.ndarray) -> tuple[float, float, float]:
    largest, smallest = float(values[-1]), float(max(values[0], 0.0))
    return largest, smallest, largest / smallest if smallest > 0 else float("inf")


def _dense(x: np.ndarray, p: np.ndarray, of_classes: np.ndarray) -> np.ndarray:
    """The Hessian in the bases, `[r (C-1), r (C-1)]`."""
    rows, classes, columns = x.shape[1], p.shape[1], of_classes.shape[1]
    outer, of_one = np.zeros((rows * classes,) * 2), np.zeros((rows * classes, rows))
    step = max(_BLOCK // (rows * classes), 1)
    for start in range(0, len(x), step):  # the rows x (x) p of all examples may not fit in memory
        some = x[start : start + step]
        both = (some[:, :, None] * p[start : start + step, None]).reshape(len(some), -1)
        outer += both.T @ both
        of_one += both.T @ some
    hessian = -outer.reshape(rows, classes, rows, classes)
    each = np.arange(classes)
    hessian[:, each, :, each] += of_one.reshape(rows, classes, rows).swapaxes(0, 1)
    dense = np.einsum("acbd,ci,dj->aibj", hessian, of_classes, of_classes, optimize=True) / len(x)
    return dense.reshape(rows * columns, rows * columns)


def _kronecker_inverse(
    x: np.ndarray, p: np.ndarray, of_classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Inverses of `E[x x^T]` and `E[diag(p) - p p^T]`: near the Hessian's if p varies little."""
    curvature = np.diag(p.mean(axis=0)) - p.T @ p / len(p)
    return np.linalg.inv(x.T @ x / len(x)), np.linalg.inv(of_classes.T @ curvature @ of_classes)
