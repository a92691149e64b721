"""BET's loss side: a batch-level weighting of regular and embedded examples."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ltjax.errors import require
from ltjax.losses.combine import EMBEDDED, LossInputs, LossTransform


def batch_embedded(
    weight: float | Callable[[jax.Array], jax.Array] = 0.5, *, axis_name: str | None = None
) -> LossTransform:
    """Weights the mean over regular and the mean over embedded examples.

        L = (1 - w) mean(regular) + w mean(embedded)

    A batch of one kind only gives that kind's mean; where `weight` is a schedule that mean
    is scaled by `w(step)` (embedded) or `1 - w(step)` (regular).

    Args:
      weight: `w` in [0, 1], or a function of the step.
      axis_name: mapped axis over which the batch is spread; kinds are counted over all of it.

    Returns:
      A transform of the weights, without state; earlier weights are kept as factors.

    Raises:
      InputError: a constant weight outside [0, 1].

    Source: reconstruction of BET (arXiv 2112.05958, 2408.17197); the formula is ours.

    >>> from ltjax.losses.combine import loss_inputs
    >>> flags = jnp.array([False, False, False, True])
    >>> inputs = loss_inputs(jnp.zeros((4, 2)), jnp.zeros(4, int), flags)
    >>> [round(float(w), 3) for w in batch_embedded(0.5).apply(inputs, (), step=0).weights]
    [0.667, 0.667, 0.667, 2.0]
    """
    constant = not callable(weight)
    if not callable(weight):
        require(0 <= float(weight) <= 1, "embedded_weight", weight, "a number from 0 to 1")

    def total(x: jax.Array) -> jax.Array:
        local = jnp.sum(x)
        return local if axis_name is None else jax.lax.psum(local, axis_name)

    def apply(inputs: LossInputs, state, *, step) -> LossInputs:
        dtype = inputs.weights.dtype
        flag = inputs.embedded.astype(dtype)
        size = total(jnp.ones_like(flag))
        embedded = total(flag)
        regular = size - embedded
        share = jnp.asarray(weight if not callable(weight) else weight(step), dtype)
        alone = jnp.ones((), dtype)
        only_regular = alone if constant else 1 - share
        only_embedded = alone if constant else share
        one = jnp.ones((), dtype)
        of_regular = jnp.where(embedded > 0, 1 - share, only_regular)
        of_embedded = jnp.where(regular > 0, share, only_embedded)
        factor = size * (
            (1 - flag) * of_regular / jnp.maximum(regular, one)
            + flag * of_embedded / jnp.maximum(embedded, one)
        )
        return inputs._replace(weights=inputs.weights * factor)

    return LossTransform(lambda class_counts: (), apply, (EMBEDDED,))
