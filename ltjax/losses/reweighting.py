"""Losses that weight examples by their class."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.errors import FLAG, Option, number
from ltjax.losses.base import (
    Counts,
    by_class,
    checked_targets,
    cross_entropy,
    of_classes,
    safe_counts,
    widened,
)
from ltjax.losses.combine import CLASS_WEIGHTS, LossInputs, LossTransform
from ltjax.losses.constants import of_counts
from ltjax.losses.schedules import Schedule, deferred

BETA = Option(
    0.9999,
    number(0, 1, open_high=True),
    "class_balanced, drw: 0 is no weighting, near 1 it is the inverse frequency",
)
WEIGHTED_MEAN = Option(
    True,
    FLAG,
    "inverse, drw: divide a batch's loss by the sum of its class weights, not by its images",
    older=False,
)


def _normalized(weights: jax.Array, class_counts: Counts) -> jax.Array:
    """Weights that sum to the number of classes with images; classes without images get 0."""
    present = jnp.asarray(class_counts) > 0
    weights = jnp.where(present, weights, 0.0)
    return weights * jnp.sum(present.astype(weights.dtype)) / jnp.sum(weights)


def inverse_frequency_weights(class_counts: Counts, power: float = 1.0) -> jax.Array:
    """Class weights by a power of the inverse frequency, `w_c ∝ n_c^(-power)`.

    Args:
      class_counts: training images of each class, `n`, `[C]`.
      power: 0 is no weighting, 1/2 the inverse square root of the frequency, 1 its inverse.

    Returns:
      float32 `[C]`, of mean 1 over the classes that have images; 0 for the others.

    Source: common practice; for the powers see Mahajan et al. (ECCV 2018), section 2.2,
    https://arxiv.org/abs/1805.00932

    >>> [round(float(w), 2) for w in inverse_frequency_weights([3, 1])]
    [0.5, 1.5]
    """
    counts = safe_counts(class_counts)
    # Divided by the smallest, so that no power underflows.
    return _normalized((jnp.min(counts) / counts) ** power, class_counts)


def class_balanced_weights(class_counts: Counts, beta: float = BETA.default) -> jax.Array:
    """Class weights by the effective number of images.

        w_c ∝ (1 - beta) / (1 - beta^n_c)

    Args:
      class_counts: training images of each class, `[C]`.
      beta: in [0, 1); 0 is no weighting, near 1 the inverse frequency.

    Returns:
      float32 `[C]`, of mean 1 over the classes that have images; 0 for the others.

    Raises:
      InputError: a beta out of range.

    Source: Cui et al., Class-Balanced Loss Based on Effective Number of Samples (CVPR 2019),
    https://arxiv.org/abs/1901.05555.

    >>> [round(float(w), 2) for w in class_balanced_weights([2, 1], beta=0.5)]
    [0.8, 1.2]
    """
    BETA.check("beta", beta)
    log_beta = math.log(beta) if beta else -math.inf
    # expm1, because beta^n is near 1 for small n.
    return _normalized(-1.0 / jnp.expm1(safe_counts(class_counts) * log_beta), class_counts)


def scheduled_weights(class_weights: ArrayLike, share: ArrayLike) -> jax.Array:
    """Interpolates between no class weights and given ones, `1 + s (w - 1)`.

    Deferred re-weighting (DRW) is `scheduled_weights(w, deferred(start_step)(step))`.

    Args:
      class_weights: `w`, `[C]`.
      share: `s` in [0, 1], `[]`, as the schedules `deferred` and `ramp` give it: 0 is no weighting,
        1 gives `w`.

    Returns:
      `[C]`.

    Source: Cao et al. (NeurIPS 2019), section 3.3, https://arxiv.org/abs/1906.07413, for shares 0
    and 1; the values between them are ours.

    >>> scheduled_weights(jnp.array([0.5, 1.5]), deferred(10)(9)).tolist()
    [1.0, 1.0]
    """
    weights = jnp.asarray(class_weights)
    return 1 + jnp.asarray(share, weights.dtype) * (weights - 1)


def weighted_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, class_weights: ArrayLike
) -> jax.Array:
    """Cross entropy with class weights.

        -w_y log softmax(z)_y,    or    -sum_c w_c t_c log softmax(z)_c

    Two averages over a batch are in use, and their gradients differ by the mean weight of the
    batch: the mean over its examples (Cui et al.), and the sum divided by `sum_i w_(y_i)`, which is
    that of PyTorch's `CrossEntropyLoss(weight=w)` and of deferred re-weighting (Cao et al.). Any
    other loss of this package is weighted by class as `class_weights[labels] * loss`.

    Args:
      logits: `z`, `[B, C]`.
      labels: class numbers `y`, int `[B]`, or probabilities `t`, `[B, C]`.
      class_weights: `w`, `[C]`, such as `class_balanced_weights(class_counts)`.

    Returns:
      `[B]`.

    Raises:
      InputError: shapes that do not fit.

    Source: with `class_balanced_weights`, Cui et al. (CVPR 2019), https://arxiv.org/abs/1901.05555

    >>> loss = weighted_cross_entropy(jnp.zeros((2, 2)), jnp.array([0, 1]), jnp.array([0.5, 1.5]))
    >>> [round(float(each), 2) for each in loss]
    [0.35, 1.04]
    """
    z = widened(logits)
    t = checked_targets(z, labels)
    factor, t = by_class_weights(z, t, jnp.asarray(class_weights))
    return factor * cross_entropy(z, t)


def by_class_weights(
    logits: jax.Array, targets: jax.Array, class_weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """A factor for every example's loss, and the targets to compute it from.

    Args:
      logits: `[B, C]`; only their shape and dtype are used.
      targets: class numbers, int `[B]`, or probabilities `[B, C]`.
      class_weights: `[C]`.

    Returns:
      The weights of the examples' classes, `[B]`, and the targets; or 1, and the targets times the
      weights where they are probabilities.

    Source: ours.
    """
    if targets.ndim == logits.ndim:
        return jnp.ones((), logits.dtype), targets * by_class(class_weights, logits)
    return of_classes(class_weights, logits)[targets], targets


def class_weights_transform(
    weights: Callable[[Counts], jax.Array],
    *,
    schedule: Schedule | None = None,
    weighted_mean: bool = False,
) -> LossTransform:
    """`weighted_cross_entropy` as a transform of the weights, or of targets that are probabilities.

    Args:
      weights: function from class counts `[C]` to class weights `[C]`, which become the state.
      schedule: function from the step to a share in [0, 1], for `scheduled_weights`; None is 1
        throughout.
      weighted_mean: whether the loss of a batch is divided by the sum of its examples' class
        weights instead of their number.

    Returns:
      The transform.

    Source: see `weighted_cross_entropy`.
    """

    def apply(inputs: LossInputs, state: jax.Array, *, step: ArrayLike) -> LossInputs:
        w = state.astype(inputs.weights.dtype)
        if schedule is not None:
            w = scheduled_weights(w, schedule(step))
        factor, targets = by_class_weights(inputs.logits, inputs.targets, w)
        divisor = inputs.divisor
        if weighted_mean:
            soft = targets.ndim == inputs.logits.ndim
            divisor = jnp.sum(targets, axis=-1) if soft else factor
        return inputs._replace(weights=inputs.weights * factor, targets=targets, divisor=divisor)

    return LossTransform(of_counts(weights), apply, (CLASS_WEIGHTS,))


def inverse_frequency_transform(
    power: float = 1.0, *, weighted_mean: bool = WEIGHTED_MEAN.default
) -> LossTransform:
    """Weights the classes by `inverse_frequency_weights`.

    Args:
      power: 0 is no weighting, 1/2 the inverse square root of the frequency, 1 its inverse.
      weighted_mean: whether to divide the loss of a batch by the sum of its examples' weights, as
        PyTorch's `CrossEntropyLoss(weight=w)` does, instead of their number.

    Returns:
      The transform; its state is the class weights, float32 `[C]`.

    Source: see `inverse_frequency_weights`.
    """
    return class_weights_transform(
        lambda counts: inverse_frequency_weights(counts, power), weighted_mean=weighted_mean
    )


def class_balanced_transform(beta: float = BETA.default) -> LossTransform:
    """Weights the classes by `class_balanced_weights`; the mean is over the examples of a batch.

    Args:
      beta: in [0, 1); 0 is no weighting, near 1 the inverse frequency.

    Returns:
      The transform; its state is the class weights, float32 `[C]`.

    Raises:
      InputError: `beta` out of range.

    Source: see `class_balanced_weights`.
    """
    BETA.check("beta", beta)
    return class_weights_transform(lambda counts: class_balanced_weights(counts, beta))


def drw_transform(
    start_step: int, beta: float = BETA.default, *, weighted_mean: bool = WEIGHTED_MEAN.default
) -> LossTransform:
    """Deferred re-weighting (DRW): no class weights at first, then `class_balanced_weights`.

    Args:
      start_step: first step with class weights.
      beta: in [0, 1); 0 is no weighting, near 1 the inverse frequency.
      weighted_mean: whether to divide the loss of a batch by the sum of its examples' weights, as
        the code of Cao et al. does, instead of their number.

    Returns:
      The transform; its state is the class weights, float32 `[C]`.

    Raises:
      InputError: `beta` out of range.

    Source: Cao et al. (NeurIPS 2019), section 3.3, https://arxiv.org/abs/1906.07413
    """
    BETA.check("beta", beta)
    return class_weights_transform(
        lambda counts: class_balanced_weights(counts, beta),
        schedule=deferred(start_step),
        weighted_mean=weighted_mean,
    )
