"""Losses that shift or scale the logits by the class prior, and post-hoc logit adjustment."""

from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ltjax.errors import Option, number
from ltjax.losses.base import (
    Counts,
    by_class,
    cross_entropy,
    log_counts,
    log_prior,
    log_prior_in_numpy,
    safe_counts,
    widened,
)
from ltjax.losses.combine import PRIOR, LossTransform, of_logits
from ltjax.losses.constants import of_prior

TAU = Option(1.0, number(0), "strength of logit_adjustment, vs and posthoc_la")
VS_GAMMA = Option(0.15, number(0), "vs: exponent of the scale of the logits")


def logit_adjusted_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, class_counts: Counts, tau: float = TAU.default
) -> jax.Array:
    """Cross entropy on logits shifted by the log class prior, so that `z` itself is balanced.

        CE(z + tau log pi, y),    pi_c = n_c / sum n

    Args:
      logits: `z`, `[B, C]`.
      labels: class numbers `y`, int `[B]`, or probabilities `[B, C]`.
      class_counts: images of each class in what is sampled, `n`, `[C]`: those of the training set,
        or shares such as a sampler's `class_prior()`.
      tau: strength, >= 0; 1 is Fisher consistent for the balanced error, 0 is plain cross entropy.

    Returns:
      `[B]`.

    Raises:
      InputError: `tau` below 0, or shapes that do not fit.

    Source: Menon et al., Long-tail learning via logit adjustment (ICLR 2021), equation 10,
    https://arxiv.org/abs/2007.07314

    >>> loss = logit_adjusted_cross_entropy(jnp.zeros((2, 2)), jnp.array([0, 1]), [9, 1])
    >>> [round(float(each), 2) for each in loss]
    [0.11, 2.3]
    """
    TAU.check("tau", tau)
    z = widened(logits)
    return cross_entropy(shifted(z, tau * log_prior(class_counts)), labels)


def logit_adjustment_transform(tau: float = TAU.default) -> LossTransform:
    """`logit_adjusted_cross_entropy` as a transform of the logits.

    Args:
      tau: strength, >= 0.

    Returns:
      The transform; its state is `tau log pi`, float32 `[C]`.

    Raises:
      InputError: `tau` below 0.

    Source: see `logit_adjusted_cross_entropy`.
    """
    TAU.check("tau", tau)
    return of_logits(of_prior(lambda prior: tau * log_prior(prior)), _shift, (PRIOR,))


def shifted(logits: jax.Array, shift: jax.Array) -> jax.Array:
    """Adds a number per class to the logits.

    Args:
      logits: `[B, C]`.
      shift: `[C]`.

    Returns:
      `[B, C]`.

    Raises:
      InputError: `shift` does not have one number per class.

    Source: ours.
    """
    return logits + by_class(shift, logits)


def _shift(logits: jax.Array, targets: jax.Array, shift: jax.Array) -> jax.Array:
    del targets
    return shifted(logits, shift)


Float = np.ndarray[Any, np.dtype[np.floating[Any]]]


@overload
def adjusted_logits(
    logits: Float, class_counts: Counts, tau: float = ..., *, axis: int = ...
) -> Float: ...
@overload
def adjusted_logits(
    logits: jax.Array, class_counts: Counts, tau: float | jax.Array = ..., *, axis: int = ...
) -> jax.Array: ...
def adjusted_logits(
    logits: Float | jax.Array,
    class_counts: Counts,
    tau: float | jax.Array = TAU.default,
    *,
    axis: int = -1,
) -> Float | jax.Array:
    """Post-hoc logit adjustment of a network that was trained with plain cross entropy.

        z - tau log pi,    pi_c = n_c / sum n

    The biases `[C]` of a linear classifier can be adjusted instead of its logits: the predictions
    are the same.

    Args:
      logits: `z`, `[..., C]`. For a NumPy array, NumPy computes the result, with `log pi` in
        float64.
      class_counts: images of each class in what the network was trained on, `n`, `[C]`: those of
        the training set, or shares such as its sampler's `class_prior()`. For a class without
        images see `safe_counts`.
      tau: strength, of either sign.
      axis: the axis of the classes.

    Returns:
      Adjusted logits, in the shape and dtype of `logits`; their arg max is the balanced prediction.

    Source: Menon et al., Long-tail learning via logit adjustment (ICLR 2021), equation 9,
    https://arxiv.org/abs/2007.07314

    >>> adjusted_logits(jnp.array([1.0, 0.0]), [9, 1]).argmax().item()
    1
    """
    shape = [1] * logits.ndim
    shape[axis] = -1
    if isinstance(logits, np.ndarray) and not isinstance(class_counts, jax.Array):
        here = log_prior_in_numpy(class_counts).astype(logits.dtype)
        adjusted: Float = logits - tau * here.reshape(shape)
        return adjusted
    z = jnp.asarray(logits)
    return z - tau * log_prior(class_counts).astype(z.dtype).reshape(shape)


def balanced_softmax(logits: ArrayLike, labels: ArrayLike, class_counts: Counts) -> jax.Array:
    """Balanced softmax: logit adjustment with `tau = 1`, by counts instead of shares.

        CE(z + log n, y)

    Args:
      logits: `z`, `[B, C]`.
      labels: class numbers `y`, int `[B]`, or probabilities `[B, C]`.
      class_counts: images of each class in what is sampled, `n`, `[C]`: those of the training set,
        or shares such as a sampler's `class_prior()`.

    Returns:
      `[B]`.

    Raises:
      InputError: shapes that do not fit.

    Source: Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition
    (NeurIPS 2020), https://arxiv.org/abs/2007.10740

    >>> loss = balanced_softmax(jnp.zeros((2, 2)), jnp.array([0, 1]), [9, 1])
    >>> [round(float(each), 2) for each in loss]
    [0.11, 2.3]
    """
    z = widened(logits)
    return cross_entropy(shifted(z, log_counts(class_counts)), labels)


def balanced_softmax_transform() -> LossTransform:
    """`balanced_softmax` as a transform of the logits.

    Returns:
      The transform; its state is `log n`, float32 `[C]`.

    Source: see `balanced_softmax`.
    """
    return of_logits(of_prior(log_counts), _shift, (PRIOR,))


def vector_scaling(
    logits: ArrayLike,
    labels: ArrayLike,
    class_counts: Counts,
    gamma: float = VS_GAMMA.default,
    tau: float = TAU.default,
) -> jax.Array:
    """VS loss: cross entropy on logits that are scaled and shifted by class.

        CE(g_c z_c + tau log pi_c, y),    g_c = (n_c / n_max)^gamma

    Args:
      logits: `z`, `[B, C]`.
      labels: class numbers `y`, int `[B]`, or probabilities `[B, C]`.
      class_counts: images of each class in what is sampled, `n`, `[C]`: those of the training set,
        or shares such as a sampler's `class_prior()`.
      gamma: exponent of the scale, >= 0; 0 is logit adjustment.
      tau: strength of the shift, >= 0.

    Returns:
      `[B]`.

    Raises:
      InputError: `gamma` or `tau` below 0, or shapes that do not fit.

    Source: Kini et al., Label-Imbalanced and Group-Sensitive Classification under
    Overparameterization (NeurIPS 2021), https://arxiv.org/abs/2103.01550

    >>> z, y = jnp.array([[4.0, 4.0]]), jnp.array([1])
    >>> [round(float(each), 2) for each in vector_scaling(z, y, [4, 1], gamma=0.5, tau=0.0)]
    [2.13]
    """
    _check_scaling(gamma, tau)
    z = widened(logits)
    constants = _scale(class_counts, gamma), tau * log_prior(class_counts)
    return cross_entropy(_scaled_and_shifted(z, constants), labels)


def vector_scaling_transform(
    gamma: float = VS_GAMMA.default, tau: float = TAU.default
) -> LossTransform:
    """`vector_scaling` as a transform of the logits.

    Args:
      gamma: exponent of the scale, >= 0.
      tau: strength of the shift, >= 0.

    Returns:
      The transform; its state is `(g, tau log pi)`, each float32 `[C]`. Like a margin, the scale
      `g` follows the images that there are, so it is made of the class counts, and `pi` is the
      prior where one is given.

    Raises:
      InputError: `gamma` or `tau` below 0.

    Source: see `vector_scaling`.
    """
    _check_scaling(gamma, tau)

    def init(class_counts: Counts, prior: Counts | None = None) -> tuple[jax.Array, jax.Array]:
        sampled = class_counts if prior is None else prior
        return _scale(class_counts, gamma), tau * log_prior(sampled)

    return of_logits(
        init, lambda logits, targets, state: _scaled_and_shifted(logits, state), (PRIOR,)
    )


def _check_scaling(gamma: float, tau: float) -> None:
    VS_GAMMA.check("gamma", gamma)
    TAU.check("tau", tau)


def _scale(class_counts: Counts, gamma: float) -> jax.Array:
    counts = safe_counts(class_counts)
    return (counts / jnp.max(counts)) ** gamma


def _scaled_and_shifted(logits: jax.Array, constants: tuple[jax.Array, jax.Array]) -> jax.Array:
    scale, shift = constants
    return shifted(logits * by_class(scale, logits), shift)
