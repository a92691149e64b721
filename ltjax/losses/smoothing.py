"""Losses that smooth the targets."""

import math

import jax
import jax.numpy as jnp
import optax

from ltjax.errors import require
from ltjax.losses.combine import SMOOTHING, LossInputs, LossTransform, safe_counts


def label_smoothing(epsilon: float = 0.1) -> LossTransform:
    """Targets `(1 - eps) t + eps / C`.

    Source: Szegedy et al. (CVPR 2016), section 7; `optax.smooth_labels`.
    """
    require(0 <= epsilon <= 1, "smoothing", epsilon, "a number from 0 to 1")

    def apply(inputs: LossInputs, state, *, step) -> LossInputs:
        del state, step
        return inputs._replace(targets=optax.losses.smooth_labels(inputs.soft_targets(), epsilon))

    return LossTransform(lambda class_counts: (), apply, (SMOOTHING,))


def label_aware_smoothing(head: float = 0.4, tail: float = 0.1) -> LossTransform:
    """Smooths the targets of frequent classes more than those of rare ones.

        t_y = 1 - eps_y,    t_c = eps_y / (C - 1) for c != y
        eps_y = tail + (head - tail) sin( (pi / 2) (n_y - n_min) / (n_max - n_min) )

    Args:
      head: epsilon of the most frequent class.
      tail: epsilon of the rarest.

    Returns:
      A transform of the targets; the state is `eps`. Mixed targets are smoothed linearly.

    Source: Zhong et al., Improving Calibration for Long-Tailed Recognition (CVPR 2021),
    the concave form.

    >>> [round(float(e), 2) for e in label_aware_smoothing().init(jnp.array([9, 5, 1]))]
    [0.4, 0.31, 0.1]
    """
    for name, value in (("smoothing_head", head), ("smoothing_tail", tail)):
        require(0 <= value < 1, name, value, "a number >= 0 and < 1")

    def init(class_counts):
        counts = safe_counts(class_counts)
        low, high = jnp.min(counts), jnp.max(counts)
        # Of a balanced set every class is a head class.
        place = jnp.where(high > low, (counts - low) / jnp.maximum(high - low, 1.0), 1.0)
        return tail + (head - tail) * jnp.sin(math.pi / 2 * place)

    def apply(inputs: LossInputs, state: jax.Array, *, step) -> LossInputs:
        del step
        t = inputs.soft_targets()
        taken = t * state.astype(t.dtype)[None, :]
        spread = (jnp.sum(taken, axis=1, keepdims=True) - taken) / (t.shape[1] - 1)
        return inputs._replace(targets=t - taken + spread)

    return LossTransform(init, apply, (SMOOTHING,))
