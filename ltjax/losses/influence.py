"""Influence-balanced loss: examples weigh less the more they move the classifier."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.errors import InputError, Option, number
from ltjax.losses.base import Counts, checked_targets, cross_entropy, soft_targets, widened
from ltjax.losses.combine import CLASS_WEIGHTS, LossInputs, LossTransform
from ltjax.losses.constants import of_counts
from ltjax.losses.reweighting import by_class_weights, inverse_frequency_weights

INFLUENCE_ALPHA = Option(
    1000.0,
    number(0, open_low=True),
    "influence_balanced: what is divided by the influence of an example",
)
INFLUENCE_START = Option(
    0.5, number(0, 1), "influence_balanced: share of the training steps with plain cross-entropy"
)
# What the published code adds to the influence, so that its inverse is finite.
EPSILON = 1e-3


def influence_balanced(
    logits: ArrayLike,
    targets: ArrayLike,
    features: ArrayLike,
    class_counts: Counts,
    alpha: float = INFLUENCE_ALPHA.default,
    *,
    published: bool = False,
) -> jax.Array:
    """Cross entropy, weighted by class and by the inverse of each example's influence.

        w_y alpha CE(z, y) / (|p - y|_1 |h|_1 + 0.001),    p = softmax(z),  w_c ∝ 1 / n_c

    The influence `|p - y|_1 |h|_1` is the 1-norm of the gradient of the loss by the weights of a
    linear classifier on `h`.

    Args:
      logits: `z`, `[B, C]`.
      targets: class numbers `y`, int `[B]`, or probabilities `[B, C]`.
      features: `h`, inputs of the classifier, `[B, D]`.
      class_counts: training images of each class, `n`, `[C]`.
      alpha: > 0; the size of the loss, and so of its learning rate.
      published: whether gradients also flow through the weight, as in the published code, instead
        of the weight being a constant.

    Returns:
      `[B]`.

    Raises:
      InputError: `alpha` not above 0, or shapes that do not fit.

    Source: Park et al., Influence-Balanced Loss for Imbalanced Visual Classification (ICCV 2021),
    https://arxiv.org/abs/2110.02444; the published code is https://github.com/pseulki/IB-Loss. It
    sets in after half of the epochs, at 0.01 times the learning rate.

    >>> z, h = jnp.zeros((2, 2)), jnp.ones((2, 5))
    >>> loss = influence_balanced(z, jnp.array([0, 1]), h, [3, 1], alpha=5.0)
    >>> [round(float(each), 2) for each in loss]  # log 2 times 0.5 and 1.5
    [0.35, 1.04]
    """
    INFLUENCE_ALPHA.check("alpha", alpha)
    z = widened(logits)
    t = checked_targets(z, targets)
    factor, weighted = by_class_weights(z, t, inverse_frequency_weights(class_counts))
    return factor * _weights(z, t, features, alpha, published) * cross_entropy(z, weighted)


def influence_balanced_transform(
    start_step: int = 0, alpha: float = INFLUENCE_ALPHA.default, *, published: bool = False
) -> LossTransform:
    """`influence_balanced` as a transform of the weights, which needs the inputs' `features`.

    Args:
      start_step: first step with these weights; there are none before it.
      alpha: > 0.
      published: whether gradients also flow through the weight.

    Returns:
      The transform; its state is the class weights, float32 `[C]`.

    Raises:
      InputError: `alpha` not above 0.

    Source: see `influence_balanced`.

    >>> [round(float(w), 2) for w in influence_balanced_transform().init([3, 1])]
    [0.5, 1.5]
    """
    INFLUENCE_ALPHA.check("alpha", alpha)

    def apply(inputs: LossInputs, state: jax.Array, *, step: ArrayLike) -> LossInputs:
        if inputs.features is None:
            raise InputError(
                "influence_balanced needs the inputs of the classifier; give "
                "loss_inputs(logits, targets, features)"
            )
        on = jnp.asarray(step) >= start_step
        by_class = jnp.where(on, state.astype(inputs.weights.dtype), 1)
        factor, targets = by_class_weights(inputs.logits, inputs.targets, by_class)
        each = _weights(inputs.logits, inputs.targets, inputs.features, alpha, published)
        weights = inputs.weights * factor * jnp.where(on, each, 1)
        return inputs._replace(weights=weights, targets=targets)

    return LossTransform(of_counts(inverse_frequency_weights), apply, (CLASS_WEIGHTS,))


def _weights(
    logits: jax.Array, targets: jax.Array, features: ArrayLike, alpha: float, published: bool
) -> jax.Array:
    """`alpha / (influence + epsilon)`, `[B]`."""
    missed = jax.nn.softmax(logits, axis=-1) - soft_targets(logits, targets)
    size = jnp.sum(jnp.abs(jnp.asarray(features).astype(logits.dtype)), axis=-1)
    weights = alpha / (jnp.sum(jnp.abs(missed), axis=-1) * size + EPSILON)
    return weights if published else jax.lax.stop_gradient(weights)
