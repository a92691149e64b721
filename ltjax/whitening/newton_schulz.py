"""The coupled Newton-Schulz iteration: an inverse square root by matrix products alone."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltjax.errors import Option, integer
from ltjax.whitening.moments import matmul, varying_like

# After this many steps rounding limits the accuracy, not convergence.
MAX_STEPS = 60
STEPS = Option(
    None,
    integer(1, MAX_STEPS),
    "Newton-Schulz: number of steps; None iterates to rounding accuracy",
)


def newton_schulz(
    matrix: jax.Array, *, steps: int | None = STEPS.default, block: int | None = None
) -> jax.Array:
    """Inverse square root of a positive definite matrix by the coupled Newton-Schulz iteration.

        Y_0 = A / c, Z_0 = I, c = ||A||_F / 2;  T = (3 I - Z Y) / 2;  Y <- Y T, Z <- T Z
        Y -> (A / c)^(1/2),  Z -> (A / c)^(-1/2)

    The iteration converges for eigenvalues of `A / c` up to 3; `c` keeps them at most 2, which
    leaves a margin and saves a step. Since it consists of matrix products alone, it suits
    accelerators whose `eigh` is slow; on a CPU `eigh` is faster. An error of 1e-4 takes about
    10, 15 and 20 steps at condition numbers of 2e2, 7e3 and 7e5. IterNorm
    (https://arxiv.org/abs/1904.03441) uses the uncoupled iteration, which is unstable.

    Args:
      matrix: `A`, `[D, D]`, symmetric positive definite.
      steps: number of steps; the derivative is that of exactly these steps. None iterates to
        rounding accuracy, with the derivative of the exact root (a Lyapunov equation, solved by the
        same kind of iteration), in forward mode, reverse mode and any order.
      block: rows that a product takes at once, in turns of a loop, for TPU; None takes all.

    Returns:
      `A^(-1/2)`, `[D, D]`.

    Raises:
      InputError: `steps` below 1.

    Source: Higham, Functions of Matrices (2008, https://doi.org/10.1137/1.9780898717778), eq. 6.35;
    the derivative follows Song et al., Fast Differentiable Matrix Square Root (ICLR 2022,
    https://arxiv.org/abs/2201.08663).
    """
    STEPS.check("steps", steps)
    if steps is None:
        return _converged(matrix, block)
    scale = _norm(matrix) / 2
    y = matrix / scale
    z = _half_step(y)
    y = matmul(y, z, block=block)
    for _ in range(steps - 1):
        half = _half_step(matmul(z, y, block=block))
        y, z = matmul(y, half, block=block), matmul(half, z, block=block)
    return z / jnp.sqrt(scale)


def _half_step(product: jax.Array) -> jax.Array:
    return 1.5 * jnp.eye(product.shape[0], dtype=product.dtype) - product / 2


def _norm(matrix: jax.Array) -> jax.Array:
    norm = jnp.sqrt(jnp.sum(matrix * matrix))
    return jnp.where(norm > 0, norm, jnp.ones_like(norm))


class _Product(NamedTuple):
    """`M[target] <- factor M[left] M[right] + share (A + A^T) + shift I`, with `A = M[added]`."""

    left: int
    right: int
    target: int
    factor: float = 1.0
    added: int = 0
    share: float = 0.0
    shift: float = 0.0


def _iterate(
    products: Sequence[_Product], matrices: jax.Array, half: int, block: int | None
) -> jax.Array:
    """Takes steps of several products until `H = M[half]` is near I, then until that is rounding.

    `H = (3 I - P) / 2` of a product `P` that converges to I. Once `||I - P||_F = 2 ||I - H||_F` is
    below 1/2 convergence is quadratic: four more steps leave float32 rounding, six float64's. A NaN
    ends the loop, since it is not above 1/2.

    All products are turns of one loop, that reads of a table what to multiply: a product in full
    float32 precision is slow to compile for TPU, and so there is one.
    """
    more = 4 if jnp.finfo(matrices.dtype).bits == 32 else 6
    adds = any(p.share for p in products)
    eye = jnp.eye(matrices.shape[-1], dtype=matrices.dtype)
    places = jnp.array([(p.left, p.right, p.target, p.added) for p in products], jnp.int32)
    factors = jnp.array([(p.factor, p.share, p.shift) for p in products], matrices.dtype)

    def multiply(turn: jax.Array, m: jax.Array) -> jax.Array:
        left, right, target, added = places[turn]
        factor, share, shift = factors[turn]
        new = factor * matmul(m[left], m[right], block=block) + shift * eye
        if adds:
            new += share * (m[added] + m[added].T)
        return m.at[target].set(new)

    def going(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        return state[1] < more

    def body(
        state: tuple[jax.Array, jax.Array, jax.Array],
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        count, after, m = state
        residual = 2 * jnp.sqrt(jnp.sum((m[half] - eye) ** 2))
        far = (residual > 0.5) & (count < MAX_STEPS) & (after == 0)
        m = jax.lax.fori_loop(0, len(products), multiply, m)
        return count + 1, jnp.where(far, after, after + 1), m

    zero = varying_like(jnp.zeros((), jnp.int32), matrices)
    found: jax.Array = jax.lax.while_loop(going, body, (zero, zero, matrices))[2]
    return found


# The root: Y, Z and H = (3 I - Z Y) / 2.
_Y, _Z, _H = range(3)
_ROOT = (
    _Product(_Y, _H, _Y),
    _Product(_H, _Z, _Z),
    _Product(_Z, _Y, _H, -0.5, shift=1.5),
)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _converged(matrix: jax.Array, block: int | None) -> jax.Array:
    scale = _norm(matrix) / 2
    y = matrix / scale
    eye = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
    start = jnp.stack([y, eye, _half_step(y)])
    return _iterate(_ROOT, start, _H, block)[_Z] / jnp.sqrt(scale)


# The sign of `[[B, C], [0, -B]]`: B <- B H and C <- H C + C H + (B C B - 3 C) / 2, with symmetric C
# and H = (3 I - B^2) / 2; half of what is not B C B is computed first.
_B, _C, _H_OF_B, _HALF, _BC = range(5)
_SIGN = (
    _Product(_H_OF_B, _C, _HALF, added=_C, share=-0.375),
    _Product(_B, _C, _BC),
    _Product(_BC, _B, _C, 0.5, added=_HALF, share=1.0),
    _Product(_B, _H_OF_B, _B),
    _Product(_B, _B, _H_OF_B, -0.5, shift=1.5),
)


def _solve_lyapunov(root: jax.Array, right: jax.Array, block: int | None) -> jax.Array:
    """`X` with `R X + X R = E`, `R` positive definite, `E` symmetric.

    The matrix sign iteration on `[[R, E], [0, -R]]`, whose sign is `[[I, 2 X], [0, -I]]`.
    """
    scale = _norm(root) / 2**0.5
    b, zero = root / scale, jnp.zeros_like(root)
    start = jnp.stack([b, right / scale, _half_step(matmul(b, b, block=block)), zero, zero])
    return _iterate(_SIGN, start, _H_OF_B, block)[_C] / 2


@_converged.defjvp
def _converged_jvp(
    block: int | None, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    inverse = _converged(primals[0], block)
    root = matmul(primals[0], inverse, block=block)
    # The iteration amplifies what rounding leaves unsymmetric: 3e-4 of the gradient for a ridge of
    # 1e-3, 6e-5 without it. Where products are whole, numbers stay those of stored results.
    symmetric = root if block is None else (root + root.T) / 2
    constant = jax.lax.stop_gradient(symmetric)
    change = jax.lax.custom_linear_solve(
        lambda x: matmul(root, x, block=block) + matmul(x, root, block=block),
        (tangents[0] + tangents[0].T) / 2,
        lambda _, b: _solve_lyapunov(constant, (b + b.T) / 2, block),
        symmetric=True,
    )
    return inverse, -matmul(inverse, change, inverse, block=block)
