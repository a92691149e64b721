"""Losses that smooth the targets."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from ltjax.errors import Option, number
from ltjax.losses.base import (
    Counts,
    by_class,
    checked_targets,
    cross_entropy,
    fewest_images,
    safe_counts,
    soft_targets,
    widened,
)
from ltjax.losses.combine import SMOOTHING, LossInputs, LossTransform
from ltjax.losses.constants import Init, no_state, of_counts

SMOOTHING_EPSILON = Option(
    0.1, number(0, 1), "uniform smoothing: share of the uniform distribution"
)
SMOOTHING_HEAD = Option(
    0.4, number(0, 1, open_high=True), "label_aware smoothing: epsilon of the most frequent class"
)
SMOOTHING_TAIL = Option(
    0.1, number(0, 1, open_high=True), "label_aware smoothing: epsilon of the rarest class"
)


def label_smoothing(
    logits: ArrayLike, targets: ArrayLike, epsilon: float = SMOOTHING_EPSILON.default
) -> jax.Array:
    """Cross entropy with smoothed targets.

        CE(z, (1 - eps) t + eps / C)

    Args:
      logits: `z`, `[B, C]`.
      targets: class numbers, int `[B]`, or probabilities `t`, `[B, C]`.
      epsilon: share of the uniform distribution, in [0, 1].

    Returns:
      `[B]`.

    Raises:
      InputError: `epsilon` out of range, or shapes that do not fit.

    Source: Szegedy et al., Rethinking the Inception Architecture (CVPR 2016), section 7,
    https://arxiv.org/abs/1512.00567; `optax.smooth_labels`.

    >>> z = jnp.log(jnp.array([[0.9, 0.1]]))
    >>> [round(float(each), 3) for each in label_smoothing(z, jnp.array([0]), epsilon=0.2)]
    [0.325]
    """
    SMOOTHING_EPSILON.check("epsilon", epsilon)
    z = widened(logits)
    t = soft_targets(z, checked_targets(z, targets))
    return cross_entropy(z, optax.losses.smooth_labels(t, epsilon))


def label_smoothing_transform(epsilon: float = SMOOTHING_EPSILON.default) -> LossTransform:
    """`label_smoothing` as a transform of the targets.

    Args:
      epsilon: share of the uniform distribution, in [0, 1].

    Returns:
      The transform.

    Raises:
      InputError: `epsilon` out of range.

    Source: see `label_smoothing`.
    """
    SMOOTHING_EPSILON.check("epsilon", epsilon)
    return _of_targets(no_state, lambda t, state: optax.losses.smooth_labels(t, epsilon))


def label_aware_smoothing(
    logits: ArrayLike,
    targets: ArrayLike,
    class_counts: Counts,
    head: float = SMOOTHING_HEAD.default,
    tail: float = SMOOTHING_TAIL.default,
    *,
    published: bool = False,
) -> jax.Array:
    """Cross entropy that smooths the targets of frequent classes more than those of rare ones.

        t_y = 1 - eps_y,                t_c = eps_y / (C - 1) for c != y
        t_y = 1 - eps_y + eps_y / C,    t_c = eps_y / C for c != y,         if published
        eps_y = tail + (head - tail) sin( (pi / 2) (n_y - n_min) / (n_max - n_min) )

    Targets that are probabilities are smoothed linearly.

    Args:
      logits: `[B, C]`.
      targets: class numbers, int `[B]`, or probabilities `[B, C]`.
      class_counts: training images of each class, `n`, `[C]`.
      head: epsilon of the most frequent class, in [0, 1).
      tail: epsilon of the rarest class, in [0, 1).
      published: whether epsilon is spread over all classes, as in the published code, instead of
        all others, as in the paper.

    Returns:
      `[B]`.

    Raises:
      InputError: `head` or `tail` out of range, or shapes that do not fit.

    Source: Zhong et al., Improving Calibration for Long-Tailed Recognition (CVPR 2021), its
    concave form, https://arxiv.org/abs/2104.00466; the published code is
    https://github.com/dvlab-research/MiSLAS

    >>> z = jnp.log(jnp.array([[0.9, 0.1], [0.1, 0.9]]))
    >>> loss = label_aware_smoothing(z, jnp.array([0, 1]), [100, 1])
    >>> [round(float(each), 3) for each in loss]
    [0.984, 0.325]
    """
    _check(head, tail)
    z = widened(logits)
    t = soft_targets(z, checked_targets(z, targets))
    return cross_entropy(z, _smoothed(t, _epsilons(class_counts, head, tail), published))


def label_aware_smoothing_transform(
    head: float = SMOOTHING_HEAD.default,
    tail: float = SMOOTHING_TAIL.default,
    *,
    published: bool = False,
) -> LossTransform:
    """`label_aware_smoothing` as a transform of the targets.

    Args:
      head: epsilon of the most frequent class, in [0, 1).
      tail: epsilon of the rarest class, in [0, 1).
      published: whether epsilon is spread over all classes instead of all others.

    Returns:
      The transform; its state is `eps`, float32 `[C]`.

    Raises:
      InputError: `head` or `tail` out of range.

    Source: see `label_aware_smoothing`.

    >>> [round(float(e), 2) for e in label_aware_smoothing_transform().init([9, 5, 1])]
    [0.4, 0.31, 0.1]
    """
    _check(head, tail)
    return _of_targets(
        of_counts(lambda counts: _epsilons(counts, head, tail)),
        lambda targets, epsilons: _smoothed(targets, epsilons, published),
    )


def _check(head: float, tail: float) -> None:
    SMOOTHING_HEAD.check("head", head)
    SMOOTHING_TAIL.check("tail", tail)


def _epsilons(class_counts: Counts, head: float, tail: float) -> jax.Array:
    """`eps`, float32 `[C]`."""
    # A class without images has the epsilon of the rarest that has some.
    counts = jnp.maximum(safe_counts(class_counts), fewest_images(class_counts))
    low, high = jnp.min(counts), jnp.max(counts)
    # In a balanced set every class is a head class.
    place = jnp.where(high > low, (counts - low) / jnp.maximum(high - low, 1.0), 1.0)
    return tail + (head - tail) * jnp.sin(math.pi / 2 * place)


def _smoothed(targets: jax.Array, epsilons: jax.Array, published: bool) -> jax.Array:
    taken = targets * by_class(epsilons, targets)
    if published:
        return targets - taken + jnp.mean(taken, axis=-1, keepdims=True)
    spread = (jnp.sum(taken, axis=-1, keepdims=True) - taken) / (targets.shape[-1] - 1)
    return targets - taken + spread


def _of_targets(init: Init, edit: Callable[[jax.Array, Any], jax.Array]) -> LossTransform:
    """A transform of the targets, as probabilities, by `edit(targets, constants)`."""

    def apply(inputs: LossInputs, state: Any, *, step: ArrayLike) -> LossInputs:
        del step
        return inputs._replace(targets=edit(inputs.soft_targets(), state))

    return LossTransform(init, apply, (SMOOTHING,))
