"""Losses that weigh examples, by class or by how well they are predicted."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ltjax.errors import require
from ltjax.losses.combine import CLASS_WEIGHTS, FOCAL, LossInputs, LossTransform, safe_counts

Weights = Callable[[jax.Array], jax.Array]


def _normalised(weights: jax.Array, class_counts: jax.Array) -> jax.Array:
    """Weights that sum to the number of classes with images; classes without get 0."""
    present = jnp.asarray(class_counts) > 0
    weights = jnp.where(present, weights, 0.0)
    return weights * jnp.sum(present.astype(weights.dtype)) / jnp.sum(weights)


def inverse_frequency(power: float = 1.0) -> Weights:
    """Class weights `w_c ∝ n_c^(-power)`, which sum to C.

    >>> [round(float(w), 2) for w in inverse_frequency()(jnp.array([3, 1]))]
    [0.5, 1.5]
    """

    def weights(class_counts):
        counts = safe_counts(class_counts)
        # Divided by the smallest, so that no power underflows.
        return _normalised((jnp.min(counts) / counts) ** power, class_counts)

    return weights


def effective_number(beta: float = 0.9999) -> Weights:
    """Class weights by the effective number of images, which sum to C.

        w_c ∝ (1 - beta) / (1 - beta^n_c)

    Args:
      beta: in [0, 1); 0 is no weighting, near 1 the inverse frequency.

    Source: Cui et al., Class-Balanced Loss (CVPR 2019).

    >>> [round(float(w), 2) for w in effective_number(0.5)(jnp.array([2, 1]))]
    [0.8, 1.2]
    """
    require(0 <= beta < 1, "beta", beta, "a number >= 0 and < 1")
    log_beta = math.log(beta) if beta else -math.inf

    def weights(class_counts):
        # expm1, because beta^n is near 1 for small n.
        return _normalised(-1.0 / jnp.expm1(safe_counts(class_counts) * log_beta), class_counts)

    return weights


def class_weights(
    weights: Weights, *, schedule: Callable[[jax.Array], jax.Array] | None = None
) -> LossTransform:
    """Weighted cross entropy, `-w_y log softmax(z)_y`, or `-sum_c w_c t_c log softmax(z)_c`.

    The batch loss is the mean over examples; PyTorch's `weight=` divides by the batch's sum
    of weights instead.

    Args:
      weights: class counts `[C]` to weights `[C]`.
      schedule: step to a number in [0, 1]; the weights are `1 + s (w - 1)`. None is 1.

    Returns:
      A transform of the weights (of the targets, where they are probabilities).
    """

    def apply(inputs: LossInputs, state: jax.Array, *, step) -> LossInputs:
        dtype = inputs.weights.dtype
        w = state.astype(dtype)
        if schedule is not None:
            w = 1 + jnp.asarray(schedule(step), dtype) * (w - 1)
        if inputs.targets.ndim == 2:
            return inputs._replace(targets=inputs.targets * w[None, :])
        return inputs._replace(weights=inputs.weights * w[inputs.targets])

    return LossTransform(weights, apply, (CLASS_WEIGHTS,))


def weighted(power: float = 1.0) -> LossTransform:
    """Cross entropy weighted by the inverse frequency of the class."""
    return class_weights(inverse_frequency(power))


def class_balanced(beta: float = 0.9999) -> LossTransform:
    """Cross entropy weighted by the effective number of images (Cui et al., CVPR 2019)."""
    return class_weights(effective_number(beta))


def drw(start_step: int, beta: float = 0.9999) -> LossTransform:
    """Deferred re-weighting: class-balanced weights from a step on, none before it.

    Source: Cao et al., LDAM (NeurIPS 2019).
    """
    return class_weights(effective_number(beta), schedule=deferred(start_step))


def focal(gamma: float = 2.0) -> LossTransform:
    """Focal loss, `-(1 - p_y)^gamma log p_y`, `p` the softmax of the logits as they come.

    With probabilities as targets: `-sum_c t_c (1 - p_c)^gamma log p_c`. Gradients flow
    through the factor too.

    Args:
      gamma: >= 0; 0 is cross entropy.

    Source: Lin et al., Focal Loss for Dense Object Detection (ICCV 2017), in the
    softmax form of the field.
    """
    require(gamma >= 0, "focal_gamma", gamma, "a number >= 0")

    def apply(inputs: LossInputs, state, *, step) -> LossInputs:
        del state, step
        if gamma == 0:
            return inputs
        log_p = jax.nn.log_softmax(inputs.logits, axis=1)
        # Kept off 0, where powers below 1 have no derivative.
        missing = jnp.maximum(-jnp.expm1(log_p), jnp.finfo(log_p.dtype).tiny)
        factor = missing**gamma
        if inputs.targets.ndim == 2:
            return inputs._replace(targets=inputs.targets * factor)
        own = jnp.take_along_axis(factor, inputs.targets[:, None], axis=1)[:, 0]
        return inputs._replace(weights=inputs.weights * own)

    return LossTransform(lambda class_counts: (), apply, (FOCAL,))


def deferred(start_step: int) -> Callable[[jax.Array], jax.Array]:
    """0 before `start_step`, 1 from it on.

    >>> [float(deferred(2)(step)) for step in range(4)]
    [0.0, 0.0, 1.0, 1.0]
    """
    return lambda step: (jnp.asarray(step) >= start_step).astype(jnp.float32)


def ramp(start_step: int, end_step: int) -> Callable[[jax.Array], jax.Array]:
    """Linear from 0 at `start_step` to 1 at `end_step`.

    >>> [float(ramp(1, 3)(step)) for step in range(5)]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    length = max(end_step - start_step, 1)
    return lambda step: jnp.clip((jnp.asarray(step, jnp.float32) - start_step) / length, 0.0, 1.0)
