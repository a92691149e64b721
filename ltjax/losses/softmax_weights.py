"""Losses that reweight the other classes in the denominator of an example's softmax."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.errors import Option, number, require
from ltjax.losses.base import (
    Counts,
    by_class,
    cross_entropy,
    log_counts,
    of_classes,
    one_class,
    safe_counts,
    widened,
)
from ltjax.losses.combine import ONE_CLASS, PRIOR, LossInputs, LossTransform, of_logits
from ltjax.losses.constants import of_counts, of_prior

EQUALIZATION_THRESHOLD = Option(
    0.5, number(0), "equalization: a class is rare if its share is below this / number of classes"
)
EQUALIZATION_PROBABILITY = Option(
    0.9, number(0, 1), "equalization: probability of leaving a rare class out"
)
SEESAW_P = Option(0.8, number(0), "seesaw: exponent of the mitigation factor")
SEESAW_Q = Option(2.0, number(0), "seesaw: exponent of the compensation factor")
SEESAW_FLOOR = Option(
    0.01,
    number(0, 1),
    "seesaw: the compensation factor takes an own probability below this for this",
    older=0.0,
)


def equalization(
    logits: ArrayLike,
    labels: ArrayLike,
    class_counts: Counts,
    threshold: float = EQUALIZATION_THRESHOLD.default,
    probability: float = EQUALIZATION_PROBABILITY.default,
    *,
    key: jax.Array,
    slots: ArrayLike | None = None,
) -> jax.Array:
    """Softmax equalization loss: rare classes are left out of other classes' softmax at random.

        -log( e^(z_y) / sum_c w_c e^(z_c) ),    w_c = 1 - b_c T_c (1 - 1[c = y])

    `T_c` is 1 for classes whose share of the training set is below `threshold / C`, otherwise 0;
    `b_c` is 1 with the given probability, drawn independently for every example and class.

    Args:
      logits: `z`, `[B, C]`.
      labels: class numbers `y`, int `[B]`.
      class_counts: training images of each class, `[C]`.
      threshold: share below which a class is rare, in units of `1 / C`, the share in a
        balanced set; >= 0.
      probability: probability of leaving a rare class out, in [0, 1].
      key: PRNG key of the step, such as `jax.random.fold_in(key, step)`.
      slots: number of each example in the batch of all devices, int `[B]`, of which its draws are
        a function; None is their order.

    Returns:
      `[B]`.

    Raises:
      InputError: a number out of range, or targets that are not one class per example.

    Source: Tan et al., Equalization Loss for Long-Tailed Object Recognition (CVPR 2020),
    its softmax form, https://arxiv.org/abs/2003.05176; the unit of the threshold is ours.

    >>> key = jax.random.key(0)
    >>> y = jnp.array([0, 1])
    >>> loss = equalization(jnp.zeros((2, 3)), y, [8, 1, 1], probability=1.0, key=key)
    >>> [round(float(each), 2) for each in loss]  # softmax over 1 class, and over 2
    [0.0, 0.69]
    """
    _check_equalization(threshold, probability)
    z = widened(logits)
    rare = _rare(class_counts, threshold)
    return cross_entropy(_equalized(z, labels, rare, key, probability, slots), labels)


def equalization_transform(
    threshold: float = EQUALIZATION_THRESHOLD.default,
    probability: float = EQUALIZATION_PROBABILITY.default,
    *,
    seed: int = 0,
) -> LossTransform:
    """`equalization` as a transform of the logits.

    The key of a step is `jax.random.fold_in(jax.random.key(seed), step)`.

    Args:
      threshold: share below which a class is rare, in units of `1 / C`, the share in a
        balanced set; >= 0.
      probability: probability of leaving a rare class out, in [0, 1].
      seed: seed of the draws.

    Returns:
      The transform; its state is `T`, bool `[C]`, and the key of the seed.

    Raises:
      InputError: `threshold` or `probability` out of range.

    Source: see `equalization`.

    >>> equalization_transform(0.5).init([8, 1, 1])[0].tolist()
    [False, True, True]
    """
    _check_equalization(threshold, probability)

    def constants(class_counts: Counts) -> tuple[jax.Array, jax.Array]:
        return _rare(class_counts, threshold), jax.random.key(seed)

    def apply(inputs: LossInputs, state: Any, *, step: ArrayLike) -> LossInputs:
        rare, key = state
        key = jax.random.fold_in(key, step)
        z, y = inputs.logits, inputs.targets
        return inputs._replace(logits=_equalized(z, y, rare, key, probability, inputs.slots))

    return LossTransform(of_counts(constants), apply, (PRIOR, ONE_CLASS))


def _check_equalization(threshold: float, probability: float) -> None:
    EQUALIZATION_THRESHOLD.check("threshold", threshold)
    EQUALIZATION_PROBABILITY.check("probability", probability)


def _rare(class_counts: Counts, threshold: float) -> jax.Array:
    """`T`, bool `[C]`."""
    counts = safe_counts(class_counts)
    return counts * counts.size < threshold * jnp.sum(counts)


def _equalized(
    logits: jax.Array,
    labels: ArrayLike,
    rare: jax.Array,
    key: jax.Array,
    probability: float,
    slots: ArrayLike | None,
) -> jax.Array:
    """Logits in which the classes that are left out are practically minus infinity."""
    require(logits.ndim == 2, "logits.shape", logits.shape, "[B, C]")
    y = one_class(logits, labels, "equalization")
    size, classes = logits.shape
    places = jnp.asarray(jnp.arange(size) if slots is None else slots, jnp.int32)
    require(places.shape == (size,), "slots.shape", places.shape, f"({size},)")
    keys = jax.vmap(lambda slot: jax.random.fold_in(key, slot))(places)
    drawn = jax.vmap(lambda k: jax.random.bernoulli(k, probability, (classes,)))(keys)
    other = jnp.arange(classes)[None, :] != y[:, None]
    # Practically log 0, without its infinities.
    left_out = jnp.finfo(logits.dtype).min / 2
    return jnp.where(rare[None, :] & drawn & other, left_out, logits)


def seesaw(
    logits: ArrayLike,
    labels: ArrayLike,
    class_counts: Counts,
    p: float = SEESAW_P.default,
    q: float = SEESAW_Q.default,
    floor: float = SEESAW_FLOOR.default,
) -> jax.Array:
    """Seesaw loss: pushes the logits of rarer classes down less, unless they are predicted wrongly.

        -log( e^(z_y) / (e^(z_y) + sum_{c != y} S_yc e^(z_c)) ),    S_yc = M_yc C_yc
        M_yc = min(1, n_c / n_y)^p,    C_yc = max(1, s_c / max(s_y, floor))^q,    s = softmax(z)

    `M` is the paper's mitigation factor, `C` its compensation factor.

    Args:
      logits: `z`, `[B, C]`.
      labels: class numbers `y`, int `[B]`.
      class_counts: images of each class in what is sampled, `n`, `[C]`: those of the training set,
        or shares such as a sampler's `class_prior()`. The paper counts the examples seen during
        training.
      p: exponent of the mitigation factor, >= 0.
      q: exponent of the compensation factor, >= 0; no gradient flows through this factor.
      floor: smallest own probability that counts, in [0, 1]. Without it the factor is unbounded:
        one example that is predicted very wrongly would outweigh its batch.

    Returns:
      `[B]`.

    Raises:
      InputError: a number out of range, or targets that are not one class per example.

    Source: Wang et al., Seesaw Loss for Long-Tailed Instance Segmentation (CVPR 2021),
    https://arxiv.org/abs/2008.10032; the floor is that of the authors' code in mmdetection,
    https://github.com/open-mmlab/mmdetection

    >>> loss = seesaw(jnp.zeros((2, 2)), jnp.array([0, 1]), [10, 1], p=1.0)
    >>> [round(float(each), 3) for each in loss]
    [0.095, 0.693]
    """
    _check_seesaw(p, q, floor)
    z = widened(logits)
    return cross_entropy(_balanced(z, labels, log_counts(class_counts), p, q, floor), labels)


def seesaw_transform(
    p: float = SEESAW_P.default, q: float = SEESAW_Q.default, floor: float = SEESAW_FLOOR.default
) -> LossTransform:
    """`seesaw` as a transform of the logits.

    Args:
      p: exponent of the mitigation factor, >= 0.
      q: exponent of the compensation factor, >= 0.
      floor: smallest own probability that counts, in [0, 1].

    Returns:
      The transform; its state is `log n`, float32 `[C]`.

    Raises:
      InputError: a number out of range.

    Source: see `seesaw`.
    """
    _check_seesaw(p, q, floor)
    return of_logits(
        of_prior(log_counts),
        lambda logits, targets, counts: _balanced(logits, targets, counts, p, q, floor),
        (PRIOR, ONE_CLASS),
    )


def _check_seesaw(p: float, q: float, floor: float) -> None:
    SEESAW_P.check("p", p)
    SEESAW_Q.check("q", q)
    SEESAW_FLOOR.check("floor", floor)


def _balanced(
    logits: jax.Array,
    labels: ArrayLike,
    log_counts: jax.Array,
    p: float,
    q: float,
    floor: float,
) -> jax.Array:
    """Logits plus `log S`, which is 0 for the own class."""
    y = one_class(logits, labels, "seesaw")
    own_count = of_classes(log_counts, logits)[y][..., None]
    mitigation = p * jnp.minimum(by_class(log_counts, logits) - own_count, 0.0)
    # log s_c - log s_y is z_c - z_y: no softmax is needed.
    fixed = jax.lax.stop_gradient(logits)
    own = jnp.take_along_axis(fixed, y[..., None], axis=-1)
    if floor > 0:
        total = jax.nn.logsumexp(fixed, axis=-1, keepdims=True)
        own = jnp.maximum(own, total + math.log(floor))
    compensation = q * jnp.maximum(fixed - own, 0.0)
    return logits + mitigation + compensation
