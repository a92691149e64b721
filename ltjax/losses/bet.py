"""BET's weights of the regular and the embedded examples of a batch."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.errors import Option, number

EMBEDDED_WEIGHT = Option(0.5, number(0, 1), "BET: weight of the mean loss of the embedded examples")


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

    In a batch that holds only regular or only embedded examples, `L` is the mean over these,
    whatever `w` is, and all weights are 1. A training loop can therefore multiply every batch's
    loss by these weights, with the flags of any sampler.

    With `scale_one_kind`, the mean of such a batch is multiplied by `w` if it is embedded and by
    `1 - w` if it is regular. This is for samplers that embed whole batches: a schedule of `w` then
    acts through these factors.

    Args:
      embedded: bool `[B]`, True for embedded examples, as a sampler's `flags(step)` gives it.
      weight: `w` in [0, 1], a number or a scalar array such as the value of a schedule.
      scale_one_kind: whether to scale batches that are all regular or all embedded, too.
      axis_name: mapped axis over which the batch is spread; regular and embedded examples are
        counted over all devices.

    Returns:
      `[B]`, float32 (float64 in JAX's 64-bit mode). Its mean is 1, except in batches that
      `scale_one_kind` scales.

    Raises:
      InputError: `weight` is a number outside [0, 1].

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
