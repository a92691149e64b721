"""How much to shrink a covariance: a number, or a rule based on the size or content of the batch.

The shrunk covariance is `(1 - a) S + a (tr S / D) I` throughout; only `a` is chosen here. `a` is
a constant to differentiation: a rule sets a hyperparameter.
"""

import jax
import jax.numpy as jnp

from ltjax.errors import Option, number, number_or
from ltjax.whitening.moments import psum

# The rules that estimate `a` from a full covariance.
ESTIMATES = ("ledoit_wolf", "oas")
RULES = ("auto", *ESTIMATES)
# A smaller ridge disappears in the rounding of float32.
SMALLEST = 1e-9
SHRINKAGE = Option(
    0.1,
    number_or(number(SMALLEST, 1), *RULES),
    "ridge relative to the mean variance; auto is D / (D + 2 N)",
)
# The estimates can be 0 (two rows, say), where a singular covariance has no root.
FLOOR = 1e-6


def relative_ridge(size: int, count: jax.Array | float) -> jax.Array | float:
    """The rule "auto": an intensity that grows with the number of channels per row.

        a = D / (D + 2 N)

    If N < D, a tiny ridge destroys the information in the batch: the whitened rows form a simplex
    in which all are equally far apart. Of the simple rules that we tried on synthetic features with
    class structure, this was the best.

    Args:
      size: D, number of channels.
      count: N, number of rows of the whole batch.

    Returns:
      `a`.

    Source: ours.

    >>> relative_ridge(64, 128)
    0.2
    """
    return size / (size + 2 * count)


def ledoit_wolf(size: int, count: jax.Array, square: jax.Array, fourth: jax.Array) -> jax.Array:
    """The Ledoit-Wolf estimate of the intensity with the least mean squared error.

        d2 = ||S - I||^2 / D,  b2 = (sum_i |x_i|^4 / N - ||S||^2) / (N D),  a = min(b2, d2) / d2

    Rows are scaled so that `tr S = D`. The estimate shrinks too little if N < D.

    Args:
      size: D, number of channels.
      count: N, number of rows, `[]`.
      square: `||S||_F^2`, `[]`.
      fourth: `sum_i |x_i|^4 / N`, `[]`.

    Returns:
      `a`, `[]`.

    Source: Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices
    (2004, https://doi.org/10.1016/S0047-259X(03)00096-4), section 3.2.
    """
    distance = square / size - 1
    noise = (fourth - square) / (count * size)
    spread = distance > 0
    ratio = jnp.minimum(noise, distance) / jnp.where(spread, distance, jnp.ones_like(distance))
    return jnp.where(spread, ratio, jnp.ones_like(ratio))


def oas(size: int, count: jax.Array, square: jax.Array) -> jax.Array:
    """The oracle approximating shrinkage (OAS) for Gaussian rows.

        a = min(1, ((1 - 2/D) ||S||^2 + D^2) / ((N + 1 - 2/D) (||S||^2 - D)))

    Rows are scaled so that `tr S = D`. The estimate shrinks too little if N < D.

    Args:
      size: D, number of channels.
      count: N, number of rows, `[]`.
      square: `||S||_F^2`, `[]`.

    Returns:
      `a`, `[]`, not yet clipped to 1.

    Source: Chen, Wiesel, Eldar and Hero, Shrinkage Algorithms for MMSE Covariance Estimation (2010,
    https://arxiv.org/abs/0907.4698), eq. 23.
    """
    excess = (count + 1 - 2 / size) * (square - size)
    spread = excess > 0
    ratio = ((1 - 2 / size) * square + size**2) / jnp.where(spread, excess, jnp.ones_like(excess))
    return jnp.where(spread, ratio, jnp.ones_like(ratio))


def intensity(
    shrinkage: float | str,
    rows: jax.Array,
    count: jax.Array,
    product: jax.Array | None,
    axis_name: str | None = None,
) -> jax.Array:
    """The intensity `a` of the shrinkage for a batch, a constant to differentiation.

    Args:
      shrinkage: a number, or one of `RULES`.
      rows: centered rows `[N, D]` on this device, in any unit; padded rows are 0.
      count: number of rows of the whole batch, `[]`.
      product: `X^T X` or `X X^T` of the whole batch; only the estimates need it.
      axis_name: mapped axis over which the batch is spread.

    Returns:
      `a`, `[]`: in `[FLOOR, 1]` for a rule, otherwise the number itself.

    Source: ours; for the rules see `relative_ridge`, `ledoit_wolf` and `oas`.
    """
    if not isinstance(shrinkage, str):
        return jnp.asarray(shrinkage, rows.dtype)
    size = rows.shape[-1]
    if shrinkage == "auto":
        return jnp.asarray(relative_ridge(size, count), rows.dtype)
    assert product is not None, "estimates need a full covariance"
    rows, product = jax.lax.stop_gradient((rows, product))
    norms = jnp.sum(rows * rows, axis=1)
    trace = psum(jnp.sum(norms), axis_name) / count
    safe = jnp.where(trace > 0, trace, jnp.ones_like(trace)) / size
    square = jnp.sum((product / count / safe) ** 2)
    if shrinkage == "ledoit_wolf":
        fourth = psum(jnp.sum((norms / safe) ** 2), axis_name) / count
        value = ledoit_wolf(size, count, square, fourth)
    else:
        value = oas(size, count, square)
    return jnp.clip(value, FLOOR, 1)
