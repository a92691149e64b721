"""Losses as composable transforms: each edits logits, targets or weights of a batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax


class LossInputs(NamedTuple):
    """What a loss is computed from.

    Attributes:
      logits: `[B, C]`.
      targets: class numbers int `[B]`, or probabilities `[B, C]`.
      weights: `[B]`; the batch loss is the mean of `weights * cross entropy`.
      embedded: bool `[B]`, True for examples that BET embedded.
    """

    logits: jax.Array
    targets: jax.Array
    weights: jax.Array
    embedded: jax.Array


class LossTransform(NamedTuple):
    """A pair of pure functions, like `optax.GradientTransformation`.

    Attributes:
      init: `class_counts [C] -> state`, a pytree of constants such as log priors.
      apply: `(inputs, state, *, step) -> inputs`.
    """

    init: Callable[[jax.Array], Any]
    apply: Callable[..., LossInputs]


def loss_inputs(logits: jax.Array, labels: chex.Array, embedded: chex.Array) -> LossInputs:
    """`LossInputs` with weight 1 for every example; losses are float32 or wider."""
    wide = logits.astype(jnp.float32) if jnp.finfo(logits.dtype).bits < 32 else logits
    weights = jnp.ones(wide.shape[:1], wide.dtype)
    return LossInputs(wide, jnp.asarray(labels), weights, jnp.asarray(embedded))


def identity() -> LossTransform:
    """Plain cross entropy: leaves the inputs as they are."""
    return LossTransform(lambda class_counts: (), lambda inputs, state, *, step: inputs)


def chain(*transforms: LossTransform) -> LossTransform:
    """Applies transforms one after another, first to last.

    Args:
      *transforms: any number; none is the identity.

    Returns:
      A transform whose state is the tuple of their states.
    """

    def init(class_counts):
        return tuple(t.init(class_counts) for t in transforms)

    def apply(inputs, state, *, step):
        for transform, own in zip(transforms, state, strict=True):
            inputs = transform.apply(inputs, own, step=step)
        return inputs

    return LossTransform(init, apply)


def cross_entropy(inputs: LossInputs) -> jax.Array:
    """Cross entropy of every example, `-sum_c t_c log softmax(z)_c`, `[B]`, unweighted."""
    if inputs.targets.ndim == 1:
        return optax.losses.softmax_cross_entropy_with_integer_labels(inputs.logits, inputs.targets)
    return optax.losses.softmax_cross_entropy(inputs.logits, inputs.targets)


def batch_loss(
    transform: LossTransform, inputs: LossInputs, state: Any, *, step: jax.Array
) -> jax.Array:
    """The scalar loss of a batch: `mean_i w_i CE(z_i, t_i)` after the transform.

    Under a mapped axis this is the local part; the mean over devices is the batch's loss.

    Args:
      transform: loss transform.
      inputs: untransformed inputs.
      state: `transform.init(class_counts)`.
      step: int `[]`, for schedules.

    >>> inputs = loss_inputs(jnp.zeros((2, 4)), jnp.array([0, 1]), jnp.zeros(2, bool))
    >>> round(float(batch_loss(identity(), inputs, (), step=0)), 4)  # log 4
    1.3863
    """
    inputs = transform.apply(inputs, state, step=step)
    return jnp.mean(inputs.weights * cross_entropy(inputs))
