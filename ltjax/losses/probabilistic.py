"""Probabilistic contrastive loss: examples against a distribution of each class."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.errors import require
from ltjax.losses.base import Counts
from ltjax.losses.contrastive import TEMPERATURE
from ltjax.losses.logit_adjustment import logit_adjusted_cross_entropy

# Where vectors of a class are all alike its concentration has no bound.
LARGEST_CONCENTRATION = 1e5
# From this size on the expansion of the Bessel functions is exact to float32.
SMALLEST_SIZE = 16


class Directions(NamedTuple):
    """Means of the vectors of each class that were seen so far.

    Attributes:
      mean: `[C, P]`; 0 for a class that was not seen.
      seen: how many vectors it is of, float32 `[C]`.
    """

    mean: jax.Array
    seen: jax.Array


class ClassDirections(NamedTuple):
    """The class statistics that training carries from batch to batch.

    Attributes:
      used: means that began with the epoch before and go on; the loss uses them.
      epoch: means of this epoch alone, which take their place in the next one.
    """

    used: Directions
    epoch: Directions


def no_directions(num_classes: int, size: int) -> ClassDirections:
    """The class statistics before the first batch.

    Args:
      num_classes: C.
      size: of the vectors, P.

    Returns:
      Means that are 0, of no vectors: of a class that was not seen, every direction is as likely as
      any other. The published code draws random means.

    Source: ours.
    """
    none = Directions(jnp.zeros((num_classes, size)), jnp.zeros(num_classes))
    return ClassDirections(none, none)


def follow_directions(
    directions: ClassDirections,
    vectors: ArrayLike,
    labels: ArrayLike,
    *,
    new_epoch: ArrayLike = False,
    axis_name: str | None = None,
) -> ClassDirections:
    """Class statistics after one more batch.

    Args:
      directions: before it.
      vectors: of norm 1, `[B, P]`; no gradient flows through the result.
      labels: int `[B]`.
      new_epoch: whether the batch is the first of an epoch, bool `[]`.
      axis_name: mapped axis over which the batch is spread.

    Returns:
      The same on all devices.

    Source: Du et al. (TPAMI 2024), section 3.3, and its code; see `probabilistic_contrastive`.

    >>> found = follow_directions(no_directions(2, 2), jnp.eye(2), jnp.array([1, 1]))
    >>> found.used.mean.tolist(), found.used.seen.tolist()
    ([[0.0, 0.0], [0.5, 0.5]], [0.0, 2.0])
    """
    z = jax.lax.stop_gradient(jnp.asarray(vectors))
    own = jax.nn.one_hot(jnp.asarray(labels), len(directions.used.seen), dtype=z.dtype)
    sums, counts = own.T @ z, jnp.sum(own, axis=0)
    if axis_name is not None:
        sums, counts = jax.lax.psum((sums, counts), axis_name)

    def following(before: Directions) -> Directions:
        count = before.seen + counts
        # The mean moves towards the batch's, so that a class without examples stays as it is.
        moved = (sums - counts[:, None] * before.mean) / jnp.maximum(count, 1)[:, None]
        return Directions(before.mean + moved, count)

    first = jnp.asarray(new_epoch)
    used = jax.tree.map(lambda a, b: jnp.where(first, a, b), directions.epoch, directions.used)
    epoch = jax.tree.map(lambda x: jnp.where(first, 0, x), directions.epoch)
    return ClassDirections(following(used), following(epoch))


def concentrations(mean: jax.Array) -> jax.Array:
    """How concentrated von Mises-Fisher distributions are, from the means of their vectors.

        kappa = P R / (1 - R^2),    R = |mean|

    Args:
      mean: `[C, P]`.

    Returns:
      `[C]`, at most 100,000.

    Source: https://github.com/LeapLabTHU/ProCo; for large P it is Sra's estimate (2012), which has
    `P - R^2` in the place of P.

    >>> found = concentrations(jnp.array([[0.0, 0.5], [0.0, 1.0], [0.0, 0.0]]))
    >>> [round(float(kappa), 2) for kappa in found]
    [1.33, 100000.0, 0.0]
    """
    square = jnp.sum(mean * mean, axis=1)
    left = jnp.maximum(1 - square, jnp.finfo(mean.dtype).tiny)
    return jnp.minimum(mean.shape[1] * jnp.sqrt(square) / left, LARGEST_CONCENTRATION)


def log_bessel_ratio(order: float, square: jax.Array, change: jax.Array) -> jax.Array:
    """How much a scaled modified Bessel function of the first kind grows.

        log( I_v(b) b^(-v) ) - log( I_v(a) a^(-v) ),    a^2 = square,  b^2 = square + change

    From Debye's expansion in `1 / s`, with `s = sqrt(v^2 + a^2)`; the differences of its terms are
    taken in closed form, so that nothing cancels where `a` is large.

    Args:
      order: `v`, at least 7.
      square: `a^2 >= 0`.
      change: `b^2 - a^2`, of the same shape.

    Returns:
      The shape of `square`; the error of the expansion is below 1e-5.

    Source: https://dlmf.nist.gov/10.41#ii for the expansion; the differences are ours.
    """
    change = jnp.maximum(change, -square)
    s = jnp.sqrt(order**2 + square)
    other = jnp.sqrt(order**2 + (square + change))
    grown = change / (s + other)
    leading = grown - order * jnp.log1p(grown / (order + s)) - jnp.log1p(change / (s * s)) / 4
    return leading + _corrections(order, other) - _corrections(order, s)


def _corrections(order: float, s: jax.Array) -> jax.Array:
    """Logarithm of the sum of Debye's polynomials, which is small."""
    t = (order / s) ** 2
    first = (3 - 5 * t) / (24 * s)
    second = (81 + t * (-462 + 385 * t)) / (1152 * s**2)
    third = (30375 + t * (-369603 + t * (765765 - 425425 * t))) / (414720 * s**3)
    return jnp.log1p(first + second + third)


def probabilistic_logits(
    vectors: ArrayLike, mean: ArrayLike, *, temperature: float = TEMPERATURE.default
) -> jax.Array:
    """Logarithms of how close examples are to the classes in expectation.

        log E[ e^(z v / t) ],    v of the von Mises-Fisher distribution of class c

    Args:
      vectors: `z`, of norm 1, `[B, P]`.
      mean: of each class's vectors, `[C, P]`; no gradient flows through it.
      temperature: `t` > 0.

    Returns:
      `[B, C]`.

    Raises:
      InputError: vectors of less than 16 numbers.

    Source: see `probabilistic_contrastive`.
    """
    z, m = jnp.asarray(vectors), jax.lax.stop_gradient(jnp.asarray(mean))
    size = z.shape[1]
    require(size >= SMALLEST_SIZE, "vectors.shape", z.shape, f"[B, P], P at least {SMALLEST_SIZE}")
    kappa = concentrations(m)
    norms = jnp.sqrt(jnp.sum(m * m, axis=1, keepdims=True))
    unit = m / jnp.maximum(norms, jnp.finfo(m.dtype).tiny)
    cosines = z @ unit.T
    own = jnp.sum(z * z, axis=1, keepdims=True) / temperature**2
    change = 2 / temperature * kappa[None, :] * cosines + own
    square = jnp.broadcast_to(kappa[None, :] ** 2, change.shape)
    return log_bessel_ratio(size / 2 - 1, square, change)


def probabilistic_contrastive(
    vectors: ArrayLike,
    labels: ArrayLike,
    mean: ArrayLike,
    class_counts: Counts,
    *,
    temperature: float = TEMPERATURE.default,
) -> jax.Array:
    """Probabilistic contrastive loss of every example.

        -log( pi_y E_y[e^(z v / t)] / sum_c pi_c E_c[e^(z v / t)] )

    `E_c` is the mean over a von Mises-Fisher distribution of class c, whose parameters are
    estimated from the mean of the class's vectors (`follow_directions`), so that every class is
    compared with, whatever the batch holds.

    Args:
      vectors: `z`, of norm 1, `[B, P]`.
      labels: int `[B]`.
      mean: of the vectors of each class, `[C, P]`.
      class_counts: training images of each class, or shares, `[C]`, of which `pi` are the shares.
      temperature: `t` > 0.

    Returns:
      `[B]`; taking the mean over the batch is left to the caller.

    Raises:
      InputError: vectors of less than 16 numbers, or shapes that do not fit.

    Source: Du et al., Probabilistic Contrastive Learning for Long-Tailed Visual Recognition (TPAMI
    2024), https://arxiv.org/abs/2403.06726; the published code is
    https://github.com/LeapLabTHU/ProCo.

    >>> z = jnp.eye(16)[:2]
    >>> loss = probabilistic_contrastive(z, jnp.array([0, 1]), 0.9 * z, [1, 1], temperature=1.0)
    >>> round(float(loss[0]), 2)
    0.34
    """
    logits = probabilistic_logits(vectors, mean, temperature=temperature)
    return logit_adjusted_cross_entropy(logits, labels, class_counts)
