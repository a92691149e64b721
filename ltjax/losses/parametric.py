"""Parametric contrastive loss: examples and class centers in one softmax."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.errors import Option, integer, number
from ltjax.losses.contrastive import TEMPERATURE

PACO_ALPHA = Option(0.05, number(0), "paco: weight of each other example of the class")
PACO_BETA = Option(1.0, number(0, open_low=True), "paco: weight of the class's center")
PACO_GAMMA = Option(1.0, number(0), "paco: weight of examples among what an example is told from")
PACO_QUEUE = Option(
    1024,
    integer(0, 2**20),
    "paco: projections of earlier batches that examples are compared with too",
)


class Queue(NamedTuple):
    """Projections of the latest batches, the newest first.

    Attributes:
      vectors: of norm 1, `[K, P]`; 0 where there is none yet.
      labels: int32 `[K]`; -1 where there is none yet.
    """

    vectors: jax.Array
    labels: jax.Array


def empty_queue(length: int, size: int) -> Queue:
    """The queue before the first batch.

    Args:
      length: K, at least 1.
      size: of the vectors, P.

    Returns:
      A queue of places that are compared with nothing. The published code fills them at random.

    Source: ours.
    """
    return Queue(jnp.zeros((length, size)), jnp.full(length, -1, jnp.int32))


def enqueued(
    queue: Queue, vectors: ArrayLike, labels: ArrayLike, *, axis_name: str | None = None
) -> Queue:
    """The queue after one more batch; what was longest in it leaves.

    Args:
      queue: before it, of K places.
      vectors: of norm 1, `[B, P]`; no gradient flows through the result. Where B is above K, the
        first K are taken.
      labels: int `[B]`.
      axis_name: mapped axis over which the batch is spread.

    Returns:
      The same on all devices.

    Source: He et al., Momentum Contrast (CVPR 2020), https://arxiv.org/abs/1911.05722

    >>> queue = enqueued(empty_queue(3, 2), jnp.eye(2), jnp.array([5, 7]))
    >>> enqueued(queue, jnp.ones((1, 2)), jnp.array([9])).labels.tolist()
    [9, 5, 7]
    """
    z, y = jax.lax.stop_gradient(jnp.asarray(vectors)), jnp.asarray(labels, jnp.int32)
    if axis_name is not None:
        z, y = jax.lax.all_gather((z, y), axis_name, tiled=True)
    length = len(queue.labels)
    return Queue(
        jnp.concatenate([z.astype(queue.vectors.dtype), queue.vectors])[:length],
        jnp.concatenate([y, queue.labels])[:length],
    )


def parametric_contrastive(
    vectors: ArrayLike,
    labels: ArrayLike,
    logits: ArrayLike,
    queue: Queue | None = None,
    *,
    alpha: float = PACO_ALPHA.default,
    beta: float = PACO_BETA.default,
    gamma: float = PACO_GAMMA.default,
    temperature: float = TEMPERATURE.default,
    axis_name: str | None = None,
) -> jax.Array:
    """Parametric contrastive loss of every example.

        -( beta log(e^(u_iy) / S_i) + alpha sum_(p in P_i) log(e^(z_i z_p / t) / S_i) )
            / (beta + alpha |P_i|),
        S_i = sum_c e^(u_ic) + gamma sum_(k in A_i) e^(z_i z_k / t)

    `A_i` are the batch's other vectors and those of the queue, and `P_i` those of them that have
    the label of the example i, `y`. The centers are learned with a classifier: they are its class
    vectors, and its logits `u` say how close an example is to each. The weights of the center and
    of the others sum to 1, so that alpha and beta matter by their ratio alone; the fewer others a
    class has, the more its center counts. With `alpha = gamma = 0` it is cross-entropy.

    Args:
      vectors: `z`, of norm 1, `[B, P]`.
      labels: `y`, int `[B]`.
      logits: `u`, `[B, C]`, shifted by the log class prior where that is to be corrected for, as
        in `logit_adjusted_cross_entropy`.
      queue: what is compared with beside the batch, or None.
      alpha: weight of each example of the same class, >= 0.
      beta: weight of the center of the class, > 0.
      gamma: weight of the examples in the denominator, >= 0.
      temperature: `t` > 0, of the examples alone.
      axis_name: mapped axis over which the batch is spread; examples are compared with those of
        all devices.

    Returns:
      `[B]`; taking the mean over the batch is left to the caller.

    Raises:
      InputError: a weight or a temperature out of range.

    Source: Cui et al., Parametric Contrastive Learning (ICCV 2021),
    https://arxiv.org/abs/2107.12028, and without its momentum encoder Generalized Parametric
    Contrastive Learning (TPAMI 2023), https://arxiv.org/abs/2209.12400; the published code is
    https://github.com/dvlab-research/Parametric-Contrastive-Learning.

    >>> z, y = jnp.eye(2), jnp.array([0, 1])
    >>> loss = parametric_contrastive(z, y, jnp.zeros((2, 2)), alpha=0.0, temperature=1.0)
    >>> round(float(loss[0]), 4)  # log 3: two centers and the other example
    1.0986
    """
    PACO_ALPHA.check("alpha", alpha)
    PACO_BETA.check("beta", beta)
    PACO_GAMMA.check("gamma", gamma)
    TEMPERATURE.check("temperature", temperature)
    z, y, u = jnp.asarray(vectors), jnp.asarray(labels), jnp.asarray(logits)
    everyone, classes, first = z, y, jnp.zeros((), jnp.int32)
    if axis_name is not None:
        everyone, classes = jax.lax.all_gather((z, y), axis_name, tiled=True)
        first = jax.lax.axis_index(axis_name) * len(z)
    if queue is not None:
        earlier = jax.lax.stop_gradient(queue.vectors).astype(z.dtype)
        everyone = jnp.concatenate([everyone, earlier])
        classes = jnp.concatenate([classes, queue.labels.astype(classes.dtype)])
    itself = jnp.arange(len(everyone))[None] == (first + jnp.arange(len(z)))[:, None]
    others = ~itself & (classes >= 0)[None]
    near = z @ everyone.T / temperature
    weighed = jnp.where(others, near + (math.log(gamma) if gamma else -jnp.inf), -jnp.inf)
    total = jax.nn.logsumexp(jnp.concatenate([u, weighed], axis=1), axis=1)
    positives = (others & (y[:, None] == classes[None])).astype(z.dtype)
    count = jnp.sum(positives, axis=1)
    center = jnp.take_along_axis(u, y[:, None], axis=1)[:, 0] - total
    same = jnp.sum(positives * near, axis=1) - count * total
    return -(beta * center + alpha * same) / (beta + alpha * count)
