"""Contrastive losses on projections of the features, balanced over the classes."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.errors import Option, number, one_of

CONTRASTIVE = Option(
    0.0,
    number(0),
    "weight of the contrastive loss, which sees every image twice; 0 turns it off",
)
CONTRAST = Option(
    "bcl",
    one_of("bcl", "proco", "paco"),
    "contrastive: what images are compared with; bcl: the batch's others and learned centers; "
    "proco: a distribution of each class; paco: others of this batch and of earlier ones, and the "
    "classifier's class vectors",
)
TEMPERATURE = Option(
    0.1,
    number(0, open_low=True),
    "contrastive: what cosines are divided by",
)


def balanced_contrastive(
    vectors: ArrayLike,
    labels: ArrayLike,
    centers: ArrayLike,
    *,
    temperature: float = TEMPERATURE.default,
    axis_name: str | None = None,
) -> jax.Array:
    """Balanced supervised contrastive loss of every example.

        -1 / |P_i| sum_(p in P_i) log( e^(z_i z_p / t) / sum_c mean_(k in A_c) e^(z_i z_k / t) )

    `A_c` holds the other examples of class c and the center of c, so that every class is there and
    all weigh the same ("class complement" and "class averaging"); `P_i` is `A_c` of the class of
    the example i itself.

    Args:
      vectors: `z`, of norm 1, `[B, P]`.
      labels: int `[B]`.
      centers: of the classes, of norm 1, `[C, P]`.
      temperature: `t` > 0.
      axis_name: mapped axis over which the batch is spread; examples are compared with those of
        all devices.

    Returns:
      `[B]`; taking the mean over the batch is left to the caller.

    Source: Zhu et al., Balanced Contrastive Learning for Long-Tailed Visual Recognition (CVPR
    2022), https://arxiv.org/abs/2207.09052, eq. 5.

    >>> z = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> loss = balanced_contrastive(z, jnp.array([0, 1]), z, temperature=1.0)
    >>> round(float(loss[0]), 4)  # log(1 + 1 / e)
    0.3133
    """
    z, y, c = jnp.asarray(vectors), jnp.asarray(labels), jnp.asarray(centers)
    everyone, classes, first = z, y, jnp.zeros((), jnp.int32)
    if axis_name is not None:
        everyone, classes = jax.lax.all_gather((z, y), axis_name, tiled=True)
        first = jax.lax.axis_index(axis_name) * len(z)
    others = jnp.concatenate([everyone, c])
    classes = jnp.concatenate([classes, jnp.arange(len(c), dtype=classes.dtype)])
    itself = jnp.arange(len(others))[None] == (first + jnp.arange(len(z)))[:, None]
    same = (y[:, None] == classes[None]) & ~itself
    counts = jnp.zeros(len(c), z.dtype).at[classes].add(1)
    # In the example's own class it is left out.
    sizes = counts[classes][None] - (y[:, None] == classes[None]).astype(z.dtype)
    logits = z @ others.T / temperature
    weighed = jnp.where(itself, -jnp.inf, logits - jnp.log(jnp.maximum(sizes, 1)))
    log_ratios = logits - jax.nn.logsumexp(weighed, axis=1, keepdims=True)
    positives = same.astype(z.dtype)
    return -jnp.sum(positives * log_ratios, axis=1) / jnp.sum(positives, axis=1)
