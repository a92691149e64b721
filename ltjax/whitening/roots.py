"""Inverse square roots of covariances, with derivatives that are exact and finite.

The autodiff of `eigh` divides by differences of eigenvalues. Here the eigenvectors are a
basis held *fixed*: in it the matrix is diagonal at the point of differentiation, yet a
differentiable function of the input, so its square root and every quotient by it solve
linear equations whose solution is elementwise. `jax.lax.custom_linear_solve` gives such a
solution its derivatives, of any order and mode, from the equation, not from the solution:
nothing is ever divided by a difference, and repeated eigenvalues are ordinary points.
"""

from functools import partial

import jax
import jax.numpy as jnp

from ltjax.errors import Option, one_of
from ltjax.kernels import eigh as native_eigh
from ltjax.whitening.moments import matmul, psum, varying_like
from ltjax.whitening.newton_schulz import STEPS, newton_schulz

EighImplementation = jax.lax.linalg.EighImplementation
# cuSOLVER's Jacobi is faster than its default between these sizes:
# https://github.com/jax-ml/jax/issues/31368 and https://github.com/jax-ml/jax/issues/31375.
GPU_JACOBI = range(33, 513)

ROOT = Option("eigh", one_of("eigh", "newton_schulz"), "how an inverse square root is computed")


def eigh(matrix: jax.Array, *, native: bool = False) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues and eigenvectors by the implementation that suits the platform.

    CPU: LAPACK's divide and conquer, or the same on two threads (`ltjax.kernels.eigh`). GPU: Jacobi
    for 32 < D <= 512, otherwise JAX's default. TPU: JAX's default, which is Jacobi up to 256 and
    QDWH above (slow to compile, so that `ltjax.whitening.methods` does without it there; whitening
    depends on the platform in these two places alone). The choices for GPU and TPU follow the
    issues linked there and above; we did not measure them.

    Args:
      matrix: `[D, D]`, symmetric; only the lower triangle is read. It is a constant to
        differentiation.
      native: whether to use the native decomposition where it is faster.

    Returns:
      `(values, vectors)`: eigenvalues `[D]`, ascending, and eigenvectors `[D, D]`, in columns.

    Source: `jax.lax.linalg.eigh`,
    https://docs.jax.dev/en/latest/_autosummary/jax.lax.linalg.eigh.html
    """
    if native and native_eigh.supports(matrix.shape[-1], matrix.dtype):
        return native_eigh.eigh(matrix)
    matrix = jax.lax.stop_gradient(matrix)

    def solve(
        implementation: EighImplementation | None, matrix: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        vectors, values = jax.lax.linalg.eigh(
            matrix, symmetrize_input=False, implementation=implementation
        )
        return values, vectors

    gpu = EighImplementation.JACOBI if matrix.shape[-1] in GPU_JACOBI else None
    if gpu is None:
        return solve(None, matrix)
    solved: tuple[jax.Array, jax.Array] = jax.lax.platform_dependent(
        matrix, cuda=partial(solve, gpu), rocm=partial(solve, gpu), default=partial(solve, None)
    )
    return solved


def ridged_roots(values: jax.Array, ridge: jax.Array) -> jax.Array:
    """Square roots of ridged eigenvalues, `sqrt(max(l, 0) + a)`, a constant to differentiation.

    Rounding can leave eigenvalues slightly negative. They are clipped before the ridge is added, so
    that a singular direction gets exactly the ridge.

    Args:
      values: eigenvalues `l`, `[D]`.
      ridge: `a > 0`, `[]`.

    Returns:
      `[D]`.

    Source: ours.
    """
    return jax.lax.stop_gradient(jnp.sqrt(jnp.maximum(values, 0) + ridge))


def _lyapunov(root: jax.Array, s: jax.Array, right: jax.Array) -> jax.Array:
    """`X` with `R X + X R = B`, for symmetric `R` that is `diag(s)` here."""
    solution: jax.Array = jax.lax.custom_linear_solve(
        lambda x: matmul(root, x) + matmul(x, root),
        right,
        lambda _, b: b / (s[:, None] + s[None, :]),
        symmetric=True,
    )
    return solution


def _divide(rows: jax.Array, root: jax.Array, s: jax.Array) -> jax.Array:
    """`Y R^(-1)`, for symmetric `R` that is `diag(s)` here."""
    root, s = varying_like(root, rows), varying_like(s, rows)
    solution: jax.Array = jax.lax.custom_linear_solve(
        lambda x: matmul(x, root), rows, lambda _, b: b / s[None, :], symmetric=True
    )
    return solution


@jax.custom_jvp
def _diagonal_root(matrix: jax.Array, s: jax.Array) -> jax.Array:
    """Square root of a symmetric matrix that is `diag(s)^2` here; `s` is a constant."""
    return jnp.diag(s)


@_diagonal_root.defjvp
def _diagonal_root_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    root = _diagonal_root(*primals)
    return root, _lyapunov(root, primals[1], tangents[0])


def _zero(x: jax.Array) -> jax.Array:
    """0 that has the derivative of `x`."""
    return x - jax.lax.stop_gradient(x)


def _root_here(change: jax.Array, ridge: jax.Array, s: jax.Array) -> jax.Array:
    """`diag(s)` as the differentiable root of `diag(s)^2 + change + (ridge - its value) I`.

    `change` is 0 with the derivative of the matrix, in the basis of the eigenvectors.
    """
    eye = jnp.eye(s.shape[0], dtype=s.dtype)
    return _diagonal_root(jnp.diag(s * s) + change + _zero(ridge) * eye, s)


@partial(jax.custom_jvp, nondiff_argnums=(5,))
def decorrelate(
    rows: jax.Array,
    ridge: jax.Array,
    weight: jax.Array,
    values: jax.Array,
    vectors: jax.Array,
    axis_name: str | None = None,
) -> jax.Array:
    """Rows times the inverse root of their own second moment, given its eigendecomposition.

        Z = Y A^(-1/2),    A = w Y^T Y + C + a I,    w Y^T Y + C = U diag(l) U^T

    `C` is constant. The function is differentiable in `Y` and `a`; the derivative accounts for the
    dependence of `l` and `U` on `Y`, although both are passed as constants, like `w`. In the basis
    `U`, with `P = Y U`, `T = dY U`, `s = sqrt(l + a)` and `B = w (P^T T + T^T P) + da I`,

        dZ = (T - (P / s) (B_ij / (s_i + s_j))) / s U^T,

    so a forward and backward pass costs seven products besides the decomposition.

    Args:
      rows: `Y`, `[N, D]`, for any N; with a mapped axis, the rows on this device.
      ridge: `a > 0`, `[]`.
      weight: `w`, `[]`.
      values: `l`, `[D]`.
      vectors: `U`, `[D, D]`.
      axis_name: mapped axis over which `Y^T Y` is summed.

    Returns:
      `Z`, `[N, D]`.

    Source: Huang et al. (CVPR 2018, https://arxiv.org/abs/1804.08450) for the derivative of ZCA;
    this form is ours.
    """
    s = ridged_roots(values, ridge)
    return matmul(matmul(rows, vectors) / s[None, :], vectors.T)


@decorrelate.defjvp
def _decorrelate_jvp(
    axis_name: str | None, primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    rows, ridge, weight, values, vectors = primals
    s = ridged_roots(values, ridge)
    turned, tangent = matmul(rows, vectors), matmul(tangents[0], vectors)
    change = weight * _zero(psum(matmul(turned.T, turned), axis_name))
    root = _root_here(change, ridge, s)
    half = weight * psum(matmul(turned.T, tangent), axis_name)
    right = half + half.T + tangents[1] * jnp.eye(s.shape[0], dtype=s.dtype)
    white = _divide(turned, root, s)
    out = _divide(tangent - matmul(white, _lyapunov(root, s, right)), root, s)
    return matmul(white, vectors.T), matmul(out, vectors.T)


@jax.custom_jvp
def _eigh_root(
    matrix: jax.Array, ridge: jax.Array, values: jax.Array, vectors: jax.Array
) -> jax.Array:
    return matmul(vectors / ridged_roots(values, ridge)[None, :], vectors.T)


@_eigh_root.defjvp
def _eigh_root_jvp(
    primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    matrix, ridge, values, vectors = primals
    s = ridged_roots(values, ridge)
    symmetric = (tangents[0] + tangents[0].T) / 2
    root = _root_here(matmul(vectors.T, _zero(matrix), vectors), ridge, s)
    right = matmul(vectors.T, symmetric, vectors)
    right += tangents[1] * jnp.eye(s.shape[0], dtype=s.dtype)
    change = _lyapunov(root, s, right)
    inner = _divide(_divide(change, root, s).T, root, s)
    out = matmul(_divide(vectors, root, s), vectors.T)
    return out, -matmul(vectors, inner, vectors.T)


def inverse_sqrt(
    covariance: jax.Array,
    ridge: jax.Array | float = 0.0,
    *,
    method: str = ROOT.default,
    steps: int | None = STEPS.default,
    block: int | None = None,
) -> jax.Array:
    """Symmetric inverse square root of a positive semidefinite matrix plus a ridge.

        (S + a I)^(-1/2) = U diag((max(l, 0) + a)^(-1/2)) U^T,    S = U diag(l) U^T

    The derivative is exact, and finite whenever the ridged eigenvalues are positive:

        d(S^(-1/2)) = U (K * (U^T dS U)) U^T,    K_ij = -1 / (s_i s_j (s_i + s_j)),

    where `s = sqrt(l + a)`. `K` holds the divided differences of `l^(-1/2)`, written without a
    quotient of differences; second derivatives are written likewise, so repeated eigenvalues are
    no special case. There is one limit: an eigenvalue that rounding made negative counts as 0 and
    gets the derivative of the exact root there, so the derivative has correct digits only if the
    ridge exceeds the rounding error of the largest eigenvalue.

    Args:
      covariance: `S`, `[D, D]`, symmetric, float32 or wider.
      ridge: `a >= 0`, added to every eigenvalue.
      method: "eigh", or "newton_schulz" for matrix products only.
      steps: number of Newton-Schulz steps; None iterates to rounding accuracy.
      block: see `newton_schulz`.

    Returns:
      `[D, D]`, symmetric.

    Raises:
      InputError: an unknown method, or `steps` below 1.

    Source: Ionescu et al., Matrix Backpropagation (ICCV 2015, https://arxiv.org/abs/1509.07838),
    for the Loewner form of spectral functions; Huang et al. (CVPR 2018,
    https://arxiv.org/abs/1804.08450) for its use in whitening; the closed form without differences
    is ours.

    >>> inverse_sqrt(jnp.diag(jnp.array([4.0, 16.0]))).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    ROOT.check("method", method)
    ridge = jnp.asarray(ridge, covariance.dtype)
    # Symmetric in value and derivative, whatever triangle the decomposition reads.
    covariance = (covariance + covariance.T) / 2
    if method == "newton_schulz":
        eye = jnp.eye(covariance.shape[0], dtype=covariance.dtype)
        return newton_schulz(covariance + ridge * eye, steps=steps, block=block)
    return _eigh_root(covariance, ridge, *eigh(covariance))
