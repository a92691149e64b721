"""Losses that weigh the other classes' share in the softmax of an example."""

import jax
import jax.numpy as jnp

from ltjax.errors import require
from ltjax.losses.combine import ONE_CLASS, PRIOR, LossInputs, LossTransform, labels, safe_counts


def equalization(
    threshold: float = 0.5,
    probability: float = 0.9,
    *,
    seed: int = 0,
    axis_name: str | None = None,
) -> LossTransform:
    """Softmax equalization: rare classes are left out of other classes' softmax, at random.

        -log( e^(z_y) / sum_c w_c e^(z_c) ),    w_c = 1 - b_c T_c (1 - 1[c = y])

    `T_c` is 1 for a class whose share of the training set is below `threshold / C`, and
    `b_c` is 1 with the given probability, drawn for every example, class and step.

    Args:
      threshold: in units of the share 1 / C of a balanced set.
      probability: of leaving a rare class out, in [0, 1].
      seed: of the draws; they are a function of it, the step and the place in the batch.
      axis_name: mapped axis over which the batch is spread, so that draws do not depend on it.

    Returns:
      A transform of the logits; the state holds `T` and the key. Needs one class an example.

    Source: Tan et al., Equalization Loss for Long-Tailed Object Recognition (CVPR 2020),
    its softmax form; the unit of the threshold is ours.

    >>> equalization(0.5).init(jnp.array([8, 1, 1]))[0].tolist()
    [False, True, True]
    """
    require(threshold >= 0, "equalization_threshold", threshold, "a number >= 0")
    require(0 <= probability <= 1, "equalization_probability", probability, "from 0 to 1")

    def init(class_counts):
        counts = safe_counts(class_counts)
        rare = counts * counts.size < threshold * jnp.sum(counts)
        return rare, jax.random.key(seed)

    def apply(inputs: LossInputs, state, *, step) -> LossInputs:
        rare, key = state
        z, y = inputs.logits, labels(inputs, "equalization")
        size, classes = z.shape
        first = jnp.zeros((), jnp.int32)
        if axis_name is not None:
            first = jax.lax.axis_index(axis_name).astype(jnp.int32) * size
        slots = first + jnp.arange(size, dtype=jnp.int32)
        key = jax.random.fold_in(key, step)
        keys = jax.vmap(lambda slot: jax.random.fold_in(key, slot))(slots)
        drawn = jax.vmap(lambda k: jax.random.bernoulli(k, probability, (classes,)))(keys)
        other = jnp.arange(classes)[None, :] != y[:, None]
        # As good as log 0, without its infinities.
        left_out = jnp.finfo(z.dtype).min / 2
        return inputs._replace(logits=jnp.where(rare[None, :] & drawn & other, left_out, z))

    return LossTransform(init, apply, (PRIOR, ONE_CLASS))


def seesaw(p: float = 0.8, q: float = 2.0) -> LossTransform:
    """Seesaw loss: mitigates the push on rarer classes, compensates where they are wrong.

        -log( e^(z_y) / (e^(z_y) + sum_{c != y} S_yc e^(z_c)) ),    S_yc = M_yc C_yc
        M_yc = min(1, n_c / n_y)^p,    C_yc = max(1, s_c / s_y)^q,    s = softmax(z)

    Args:
      p: exponent of the mitigation.
      q: exponent of the compensation, through which no gradient flows.

    Returns:
      A transform of the logits; the state is `log n`. Needs one class an example.

    Source: Wang et al., Seesaw Loss for Long-Tailed Instance Segmentation (CVPR 2021);
    counts are the training set's, not accumulated on the way.

    >>> from ltjax.losses.combine import loss_inputs
    >>> inputs = loss_inputs(jnp.zeros((1, 2)), jnp.array([0]), jnp.array([False]))
    >>> transform = seesaw(p=1.0)
    >>> out = transform.apply(inputs, transform.init(jnp.array([10, 1])), step=0)
    >>> [round(float(v), 2) for v in out.logits[0]]
    [0.0, -2.3]
    """
    require(p >= 0, "seesaw_p", p, "a number >= 0")
    require(q >= 0, "seesaw_q", q, "a number >= 0")

    def apply(inputs: LossInputs, state: jax.Array, *, step) -> LossInputs:
        del step
        z, y = inputs.logits, labels(inputs, "seesaw")
        log_counts = state.astype(z.dtype)
        mitigation = p * jnp.minimum(log_counts[None, :] - log_counts[y][:, None], 0.0)
        # log s_c - log s_y is z_c - z_y: no softmax is needed.
        fixed = jax.lax.stop_gradient(z)
        own = jnp.take_along_axis(fixed, y[:, None], axis=1)
        compensation = q * jnp.maximum(fixed - own, 0.0)
        # Both are 0 at c = y.
        return inputs._replace(logits=z + mitigation + compensation)

    return LossTransform(lambda counts: jnp.log(safe_counts(counts)), apply, (PRIOR, ONE_CLASS))
