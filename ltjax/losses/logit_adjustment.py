"""Losses that shift or scale the logits by class."""

import jax
import jax.numpy as jnp

from ltjax.errors import require
from ltjax.losses.combine import (
    MARGIN,
    ONE_CLASS,
    PRIOR,
    LossInputs,
    LossTransform,
    labels,
    safe_counts,
)


def log_prior(class_counts: jax.Array) -> jax.Array:
    """`log(n_c / sum n)`, float32 `[C]`; a class without images counts as one image."""
    counts = safe_counts(class_counts)
    return jnp.log(counts / jnp.sum(counts))


def _shift(inputs: LossInputs, state: jax.Array, *, step) -> LossInputs:
    del step
    return inputs._replace(logits=inputs.logits + state.astype(inputs.logits.dtype)[None, :])


def logit_adjustment(tau: float = 1.0) -> LossTransform:
    """Logit-adjusted cross entropy: trains `z + tau log pi`, so that `z` itself is balanced.

        CE(z + tau log pi, y),    pi_c = n_c / sum n

    Args:
      tau: strength; 1 is Fisher consistent for the balanced error, 0 plain cross entropy.

    Returns:
      A transform of the logits; the state is `tau log pi`.

    Source: Menon et al., Long-tail learning via logit adjustment (ICLR 2021), eq. 10.

    >>> transform = logit_adjustment()
    >>> [round(float(v), 2) for v in transform.init(jnp.array([9, 1]))]
    [-0.11, -2.3]
    """
    return LossTransform(lambda counts: tau * log_prior(counts), _shift, (PRIOR,))


def adjusted_logits(
    logits: jax.Array, class_counts: jax.Array, tau: float = 1.0, *, axis: int = -1
) -> jax.Array:
    """Post-hoc logit adjustment, `z - tau log pi`, of a network trained with cross entropy.

    Args:
      logits: `[..., C]`.
      class_counts: `[C]`, of the training set.
      tau: strength.
      axis: of the classes.

    Returns:
      Logits whose arg max is the balanced prediction.

    Source: Menon et al. (ICLR 2021), eq. 9.

    >>> adjusted_logits(jnp.array([1.0, 0.0]), jnp.array([9, 1])).argmax().item()
    1
    """
    shape = [1] * logits.ndim
    shape[axis] = -1
    prior = log_prior(class_counts).astype(logits.dtype)
    return logits - tau * prior.reshape(shape)


def balanced_softmax() -> LossTransform:
    """Balanced softmax, `CE(z + log n, y)`: logit adjustment with tau 1, up to a shift.

    Source: Ren et al., Balanced Meta-Softmax (NeurIPS 2020).

    >>> [round(float(v), 2) for v in balanced_softmax().init(jnp.array([9, 1]))]
    [2.2, 0.0]
    """
    return LossTransform(lambda counts: jnp.log(safe_counts(counts)), _shift, (PRIOR,))


def vector_scaling(gamma: float = 0.15, tau: float = 1.0) -> LossTransform:
    """VS loss: cross entropy on logits scaled and shifted by class.

        CE(g_c z_c + tau log pi_c, y),    g_c = (n_c / n_max)^gamma

    Args:
      gamma: exponent of the scale; 0 is logit adjustment.
      tau: strength of the shift.

    Returns:
      A transform of the logits; the state is `(g, tau log pi)`.

    Source: Kini et al., Label-Imbalanced and Group-Sensitive Classification under
    Overparameterization (NeurIPS 2021).

    >>> scale, _ = vector_scaling(0.5).init(jnp.array([4, 1]))
    >>> scale.tolist()
    [1.0, 0.5]
    """
    require(gamma >= 0, "vs_gamma", gamma, "a number >= 0")

    def init(class_counts):
        counts = safe_counts(class_counts)
        return (counts / jnp.max(counts)) ** gamma, tau * log_prior(class_counts)

    def apply(inputs: LossInputs, state, *, step) -> LossInputs:
        scale = state[0].astype(inputs.logits.dtype)
        scaled = inputs._replace(logits=inputs.logits * scale[None, :])
        return _shift(scaled, state[1], step=step)

    return LossTransform(init, apply, (PRIOR,))


def ldam(max_margin: float = 0.5, scale: float = 30.0, *, scaled: bool = False) -> LossTransform:
    """Label-distribution-aware margin on the logits of a normalised (cosine) classifier.

        CE(s (z - D_y 1[c = y]), y),    D_c = max_margin (n_min / n_c)^(1/4)

    Args:
      max_margin: margin of the rarest class, in units of the cosine.
      scale: `s`.
      scaled: the logits are `s z` already, as a cosine head of that scale gives them.

    Returns:
      A transform of the logits; the state is `s D`. Needs one class an example.

    Source: Cao et al., Learning Imbalanced Datasets with LDAM (NeurIPS 2019).

    >>> [round(float(v), 2) for v in ldam(0.5, scale=1.0).init(jnp.array([16, 1]))]
    [0.25, 0.5]
    """
    require(max_margin >= 0, "max_margin", max_margin, "a number >= 0")
    require(scale > 0, "scale", scale, "a number > 0")

    def init(class_counts):
        counts = safe_counts(class_counts)
        return scale * max_margin * (jnp.min(counts) / counts) ** 0.25

    def apply(inputs: LossInputs, state: jax.Array, *, step) -> LossInputs:
        del step
        dtype = inputs.logits.dtype
        y = labels(inputs, "LDAM")
        own = jax.nn.one_hot(y, inputs.logits.shape[1], dtype=dtype)
        logits = inputs.logits if scaled else inputs.logits * jnp.asarray(scale, dtype)
        return inputs._replace(logits=logits - own * state.astype(dtype)[None, :])

    return LossTransform(init, apply, (MARGIN, ONE_CLASS))
