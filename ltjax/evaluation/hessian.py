"""Conditioning of the softmax classifier: the Hessian of cross entropy in its weights."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.errors import require

EXACT_UP_TO = 1500
Map = Callable[[np.ndarray], np.ndarray]


class Conditioning(NamedTuple):
    """Largest and smallest non-null eigenvalue, their ratio, and how they were found."""

    largest: float
    smallest: float
    condition_number: float
    exact: bool


def hessian_product(features: jax.Array, probabilities: jax.Array, v: jax.Array) -> jax.Array:
    """`H v` for the Hessian of mean cross entropy in the classifier's weights.

        H = E[(diag(p) - p p^T) (x) x x^T],    (H v) = X^T R / N,
        R = P * (Xv) - P * rowsum(P * Xv)

    Args:
      features: `[N, D]`, inputs of the classifier.
      probabilities: `[N, C]`, its softmax outputs.
      v: `[D, C]`.

    Returns:
      `[D, C]`.

    Source: Boehning, Multinomial logistic regression algorithm (1992).
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
    """Condition number of the Hessian on the complement of its null space.

    The null space is known: the same vector added to every class's weights, and directions
    that no feature has. On the rest the Hessian is positive definite. It is made dense up to
    `EXACT_UP_TO` rows; above, its largest eigenvalue comes from Lanczos with full
    reorthogonalization, its smallest from Lanczos on the inverse, by conjugate gradients.

    Args:
      features: float `[N, D]`, inputs of the classifier.
      logits: float `[N, C]`.
      exact: dense or Lanczos; by default by size.
      iterations: the most Lanczos steps.

    Raises:
      InputError: fewer than two classes, or features that are all 0.

    Source: method.md's diagnostics (arXiv 2408.17197 on conditioning); Lanczos (1950).

    >>> x, z = np.eye(2), np.zeros((2, 2))
    >>> round(conditioning(x, z).condition_number, 6)
    1.0
    """
    x = np.asarray(features, np.float64)
    require(np.shape(logits)[1] >= 2, "classes", np.shape(logits)[1], "at least 2")
    require(bool(np.any(x)), "features", "all 0", "features that are not all 0")
    z = np.asarray(logits, np.float64)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    basis, of_classes = _range_basis(x), _class_basis(p.shape[1])
    reduced = x @ basis
    rows, columns = reduced.shape[1], of_classes.shape[1]
    if exact is None:
        exact = rows * columns <= EXACT_UP_TO
    if exact:
        values = np.linalg.eigvalsh(_dense(reduced, p, of_classes))
        return Conditioning(*_ends(values), True)

    def apply(v: np.ndarray) -> np.ndarray:
        full = v.reshape(rows, columns) @ of_classes.T
        weighed = p * (reduced @ full)
        residual = weighed - p * weighed.sum(axis=1, keepdims=True)
        return (reduced.T @ residual @ of_classes / len(x)).ravel()

    of_channels, of_pairs = _kronecker_inverse(reduced, p, of_classes)

    def roughly_solve(b: np.ndarray) -> np.ndarray:
        return (of_channels @ b.reshape(rows, columns) @ of_pairs).ravel()

    def solve(b: np.ndarray) -> np.ndarray:
        return _conjugate_gradients(apply, b, roughly_solve)

    size = rows * columns
    largest = _lanczos(apply, size, iterations)
    smallest = 1 / _lanczos(solve, size, iterations)
    return Conditioning(largest, smallest, largest / smallest, False)


def _ends(values: np.ndarray) -> tuple[float, float, float]:
    largest, smallest = float(values[-1]), float(max(values[0], 0.0))
    return largest, smallest, largest / smallest if smallest > 0 else float("inf")


def _dense(x: np.ndarray, p: np.ndarray, of_classes: np.ndarray) -> np.ndarray:
    """The Hessian in the bases, `[r (C-1), r (C-1)]`."""
    rows, columns = x.shape[1], of_classes.shape[1]
    projected = p @ of_classes
    curvature = np.einsum("nc,ci,cj->nij", p, of_classes, of_classes, optimize=True)
    curvature -= projected[:, :, None] * projected[:, None, :]
    dense = np.einsum("na,nij,nb->aibj", x, curvature, x, optimize=True) / len(x)
    return dense.reshape(rows * columns, rows * columns)


def _kronecker_inverse(
    x: np.ndarray, p: np.ndarray, of_classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Inverses of `E[x x^T]` and `E[diag(p) - p p^T]`: near the Hessian's if p varies little."""
    curvature = np.diag(p.mean(axis=0)) - p.T @ p / len(p)
    return np.linalg.inv(x.T @ x / len(x)), np.linalg.inv(of_classes.T @ curvature @ of_classes)


def _conjugate_gradients(
    apply: Map,
    b: np.ndarray,
    precondition: Map,
    *,
    tolerance: float = 1e-6,
    most: int = 5000,
) -> np.ndarray:
    """Solves `H v = b` for a positive definite `H`, preconditioned."""
    v, r = np.zeros_like(b), b.copy()
    z = precondition(r)
    direction, rz = z, r @ z
    for _ in range(most):
        product = apply(direction)
        step = rz / (direction @ product)
        v, r = v + step * direction, r - step * product
        if np.linalg.norm(r) <= tolerance * np.linalg.norm(b):
            break
        z = precondition(r)
        rz, before = r @ z, rz
        direction = z + (rz / before) * direction
    return v


def _lanczos(apply: Map, size: int, iterations: int, *, tolerance: float = 1e-3) -> float:
    """Largest eigenvalue of a symmetric positive map; stops at a relative residual."""
    v = np.random.default_rng(0).normal(size=size)
    basis = [v / np.linalg.norm(v)]
    alphas: list[float] = []
    betas: list[float] = []
    value = 0.0
    for _ in range(min(iterations, size)):
        w = apply(basis[-1])
        alphas.append(float(basis[-1] @ w))
        for _ in range(2):  # orthogonal to all before, twice is enough
            known = np.stack(basis)
            w = w - known.T @ (known @ w)
        beta = float(np.linalg.norm(w))
        values, vectors = np.linalg.eigh(np.diag(alphas) + np.diag(betas, 1) + np.diag(betas, -1))
        value = float(values[-1])
        if beta * abs(vectors[-1, -1]) <= tolerance * value:
            break
        betas.append(beta)
        basis.append(w / beta)
    return value
