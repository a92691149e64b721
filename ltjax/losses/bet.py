"""BET's loss side: weights of a batch's regular and embedded examples."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.errors import Option, number

EMBEDDED_WEIGHT = Option(0.5, number(0, 1), "BET: weight of the embedded mean")


def bet_weights(
    embedded: ArrayLike,
    weight: float | jax.Array = EMBEDDED_WEIGHT.default,
    *,
    scale_one_kind: bool = False,
    axis_name: str | None = None,
) -> jax.Array:
    """BET's weights of the examples of a batch.

    The mean over the batch of these weights times any loss `[B]` is BET's loss,

        L = (1 - w) mean(regular) + w mean(embedded)

    A batch of one kind alone gives that kind's mean, whatever the weight; so a loop may multiply
    by these weights with any sampler's flags, and without embedded examples they are 1. With
    `scale_one_kind` that mean is still multiplied by `w` (embedded) or `1 - w` (regular): where
    `w` is a schedule's value and whole batches are embedded, the schedule acts by this factor.

    Args:
      embedded: bool `[B]`, True for embedded examples: a sampler's `flags(step)`.
      weight: `w` in [0, 1], a number or a scalar array such as a schedule's value.
      scale_one_kind: multiply also batches of one kind alone.
      axis_name: mapped axis over which the batch is spread; kinds are counted over all of it.

    Returns:
      `[B]`, float32 (float64 in JAX's 64-bit mode); of mean 1, unless a lone kind is scaled.

    Raises:
      InputError: a number outside [0, 1].

    Source: reconstruction of BET (https://arxiv.org/abs/2112.05958,
    https://arxiv.org/abs/2408.17197); the formula is ours.

    >>> flags = jnp.array([False, False, False, True])
    >>> [round(float(w), 3) for w in bet_weights(flags)]
    [0.667, 0.667, 0.667, 2.0]
    """
    if not isinstance(weight, jax.Array):
        EMBEDDED_WEIGHT.check("weight", weight)

    def total(x: jax.Array) -> jax.Array:
        local = jnp.sum(x)
        return local if axis_name is None else jax.lax.psum(local, axis_name)

    dtype = jnp.result_type(float)
    flag = jnp.asarray(embedded).astype(dtype)
    size = total(jnp.ones_like(flag))
    embedded_size = total(flag)
    regular_size = size - embedded_size
    share = jnp.asarray(weight, dtype)
    one = jnp.ones((), dtype)
    only_regular = 1 - share if scale_one_kind else one
    only_embedded = share if scale_one_kind else one
    of_regular = jnp.where(embedded_size > 0, 1 - share, only_regular)
    of_embedded = jnp.where(regular_size > 0, share, only_embedded)
    return size * (
        (1 - flag) * of_regular / jnp.maximum(regular_size, one)
        + flag * of_embedded / jnp.maximum(embedded_size, one)
    )
