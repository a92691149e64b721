"""Losses that shift the logits by class."""

import jax
import jax.numpy as jnp

from ltjax.losses.base import LossInputs, LossTransform


def log_prior(class_counts: jax.Array) -> jax.Array:
    """`log(n_c / sum n)`, float32 `[C]`; a class without images counts as one image."""
    counts = jnp.maximum(jnp.asarray(class_counts, jnp.float32), 1.0)
    return jnp.log(counts / jnp.sum(counts))


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

    def init(class_counts):
        return tau * log_prior(class_counts)

    def apply(inputs: LossInputs, state: jax.Array, *, step) -> LossInputs:
        del step
        return inputs._replace(logits=inputs.logits + state.astype(inputs.logits.dtype)[None, :])

    return LossTransform(init, apply)
