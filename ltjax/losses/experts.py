"""How much the predictions of several classifiers on the same features differ."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.errors import Option, number, require
from ltjax.losses.base import widened

DIVERSITY = Option(
    0.2,
    number(0),
    "experts: weight of the divergence between each head and their average, which is subtracted "
    "from the loss",
)


def expert_diversity(logits: ArrayLike) -> jax.Array:
    """Mean divergence of classifiers from their average.

        mean_k KL( p || softmax(z_k) ),    p = softmax(mean_k z_k)

    The average is a constant: gradients flow through the single classifiers alone.

    Args:
      logits: `z`, of K classifiers, `[K, B, C]`.

    Returns:
      `[B]`.

    Raises:
      InputError: logits of another rank.

    Source: Wang et al., Long-tailed Recognition by Routing Diverse Distribution-Aware Experts
    (RIDE, ICLR 2021), https://arxiv.org/abs/2010.01809, as in
    https://github.com/frank-xwang/RIDE-LongTailRecognition with one temperature for all classes.

    >>> z = jnp.array([[[0.0, 0.0]], [[2.0, 0.0]]])
    >>> [round(float(each), 3) for each in expert_diversity(z)]
    [0.097]
    """
    z = widened(logits)
    require(z.ndim == 3, "logits.shape", z.shape, "[K, B, C]")
    average = jax.lax.stop_gradient(jax.nn.log_softmax(jnp.mean(z, axis=0), axis=-1))[None]
    apart = jnp.exp(average) * (average - jax.nn.log_softmax(z, axis=-1))
    return jnp.mean(jnp.sum(apart, axis=-1), axis=0)
