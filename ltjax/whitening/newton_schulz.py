"""The coupled Newton-Schulz iteration: an inverse square root by matrix products alone."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ltjax.errors import Option, integer
from ltjax.whitening.moments import matmul

# After this many steps rounding limits the accuracy, not convergence.
MAX_STEPS = 60
STEPS = Option(
    None,
    integer(1, MAX_STEPS),
    "Newton-Schulz: number of steps; None iterates to rounding accuracy",
)


def newton_schulz(matrix: jax.Array, *, steps: int | None = STEPS.default) -> jax.Array:
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
        return _converged(matrix)
    scale = _norm(matrix) / 2
    y = matrix / scale
    z = _half_step(y)
    y = matmul(y, z)
    for _ in range(steps - 1):
        half = _half_step(matmul(z, y))
        y, z = matmul(y, half), matmul(half, z)
    return z / jnp.sqrt(scale)


def _half_step(product: jax.Array) -> jax.Array:
    return 1.5 * jnp.eye(product.shape[0], dtype=product.dtype) - product / 2


def _norm(matrix: jax.Array) -> jax.Array:
    norm = jnp.sqrt(jnp.sum(matrix * matrix))
    return jnp.where(norm > 0, norm, jnp.ones_like(norm))


# The three matrices that an iteration carries from step to step; the last one converges to I.
Carry = tuple[jax.Array, jax.Array, jax.Array]


def _iterate(step: Callable[[Carry], Carry], carry: Carry) -> Carry:
    """Repeats `step` until the product carried is near I, then until that is rounding.

    Once `||I - P||_F < 1/2` convergence is quadratic: four more steps leave float32
    rounding, six float64's. A NaN ends the loop, since it is not above 1/2. All steps are of one
    loop, whose body is compiled once: on TPU each product is slow to compile.
    """
    more = 4 if jnp.finfo(carry[2].dtype).bits == 32 else 6

    def going(state: tuple[jax.Array, jax.Array, Carry]) -> jax.Array:
        return state[1] < more

    def body(state: tuple[jax.Array, jax.Array, Carry]) -> tuple[jax.Array, jax.Array, Carry]:
        count, after, carry = state
        p = carry[2]
        residual = jnp.sqrt(jnp.sum((p - jnp.eye(p.shape[0], dtype=p.dtype)) ** 2))
        far = (residual > 0.5) & (count < MAX_STEPS) & (after == 0)
        return count + 1, jnp.where(far, after, after + 1), step(carry)

    zero = jnp.zeros((), jnp.int32)
    _, _, carry = jax.lax.while_loop(going, body, (zero, zero, carry))
    return carry


def _solve_lyapunov(root: jax.Array, right: jax.Array) -> jax.Array:
    """`X` with `R X + X R = E`, `R` positive definite, `E` symmetric.

    The matrix sign iteration on `[[R, E], [0, -R]]`, whose sign is `[[I, 2 X], [0, -I]]`.
    """
    scale = _norm(root) / 2**0.5

    def step(carry: Carry) -> Carry:
        b, c, square = carry
        left = matmul(square, c)
        c = (3 * c - left - left.T + matmul(b, c, b)) / 2
        b = matmul(b, _half_step(square))
        return b, c, matmul(b, b)

    b = root / scale
    _, c, _ = _iterate(step, (b, right / scale, matmul(b, b)))
    return c / 2


@jax.custom_jvp
def _converged(matrix: jax.Array) -> jax.Array:
    scale = _norm(matrix) / 2

    def step(carry: Carry) -> Carry:
        y, z, product = carry
        half = _half_step(product)
        y, z = matmul(y, half), matmul(half, z)
        return y, z, matmul(z, y)

    y = matrix / scale
    start = (y, jnp.eye(matrix.shape[0], dtype=matrix.dtype), y)
    _, z, _ = _iterate(step, start)
    return z / jnp.sqrt(scale)


@_converged.defjvp
def _converged_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    inverse = _converged(primals[0])
    root = matmul(primals[0], inverse)
    constant = jax.lax.stop_gradient(root)
    change = jax.lax.custom_linear_solve(
        lambda x: matmul(root, x) + matmul(x, root),
        (tangents[0] + tangents[0].T) / 2,
        lambda _, b: _solve_lyapunov(constant, (b + b.T) / 2),
        symmetric=True,
    )
    return inverse, -matmul(inverse, change, inverse)
