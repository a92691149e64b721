"""Losses as composable transforms: each edits logits, targets or weights of a batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from ltjax.errors import InputError


class LossInputs(NamedTuple):
    """What a loss is computed from.

    Attributes:
      logits: `[B, C]`.
      targets: class numbers int `[B]`, or probabilities `[B, C]`.
      weights: `[B]`; the batch loss is the mean of `weights * cross entropy + penalty`.
      embedded: bool `[B]`, True for examples that BET embedded.
      penalty: `[B]`, added to every example's loss.
    """

    logits: jax.Array
    targets: jax.Array
    weights: jax.Array
    embedded: jax.Array
    penalty: jax.Array

    def soft_targets(self) -> jax.Array:
        """Targets as probabilities `[B, C]`, in the logits' dtype."""
        if self.targets.ndim == 2:
            return self.targets
        return jax.nn.one_hot(self.targets, self.logits.shape[1], dtype=self.logits.dtype)


class LossTransform(NamedTuple):
    """A pair of pure functions, like `optax.GradientTransformation`.

    Attributes:
      init: `class_counts [C] -> state`, a pytree of constants such as log priors.
      apply: `(inputs, state, *, step) -> inputs`.
      roles: what the transform does, by which `chain` refuses meaningless orders.
    """

    init: Callable[[jax.Array], Any]
    apply: Callable[..., LossInputs]
    roles: tuple[str, ...] = ()


# Roles, each at most once in a chain, and why a second one is meaningless.
PRIOR, MARGIN, ONE_CLASS = "class prior", "margin", "one class an example"
SMOOTHING, CLASS_WEIGHTS, FOCAL, EMBEDDED = "smoothing", "class weights", "focal", "embedded"
_TWICE = {
    PRIOR: "the class prior would be corrected twice; keep one",
    MARGIN: "two margins are one larger margin; raise max_margin instead",
    SMOOTHING: "smooth once, with a larger epsilon",
    CLASS_WEIGHTS: "rare classes would be weighted twice; keep one",
    FOCAL: "raise gamma instead",
    EMBEDDED: "regular and embedded examples would be weighted twice; keep one",
}
# (earlier, later) pairs that do not mean what they seem to.
_ORDER = {
    (PRIOR, MARGIN): "the margin's scale would multiply the log prior",
    (SMOOTHING, ONE_CLASS): "it needs one class an example, not smoothed targets",
    (CLASS_WEIGHTS, SMOOTHING): "smoothing would spread weights, not probabilities",
    (FOCAL, PRIOR): "its weights would be of probabilities that change after it",
    (FOCAL, MARGIN): "its weights would be of probabilities that change after it",
    (FOCAL, SMOOTHING): "smoothing would spread weights, not probabilities",
}


def loss_inputs(logits: jax.Array, targets: chex.Array, embedded: chex.Array) -> LossInputs:
    """`LossInputs` with weight 1 for every example; losses are float32 or wider."""
    wide = logits.astype(jnp.float32) if jnp.finfo(logits.dtype).bits < 32 else logits
    weights = jnp.ones(wide.shape[:1], wide.dtype)
    targets, flags = jnp.asarray(targets), jnp.asarray(embedded)
    return LossInputs(wide, targets, weights, flags, jnp.zeros_like(weights))


def identity() -> LossTransform:
    """Plain cross entropy: leaves the inputs as they are."""
    return LossTransform(lambda class_counts: (), lambda inputs, state, *, step: inputs)


def chain(*transforms: LossTransform) -> LossTransform:
    """Applies transforms one after another, first to last.

    Args:
      *transforms: any number; none is the identity.

    Returns:
      A transform whose state is the tuple of their states.

    Raises:
      InputError: two transforms that do not go together, or not in this order.
    """
    roles = tuple(role for t in transforms for role in t.roles)
    _check_order(roles)

    def init(class_counts):
        return tuple(t.init(class_counts) for t in transforms)

    def apply(inputs, state, *, step):
        for transform, own in zip(transforms, state, strict=True):
            inputs = transform.apply(inputs, own, step=step)
        return inputs

    return LossTransform(init, apply, roles)


def _check_order(roles: tuple[str, ...]) -> None:
    for i, earlier in enumerate(roles):
        for later in roles[i + 1 :]:
            if earlier == later and earlier in _TWICE:
                raise InputError(f"chain has {earlier!r} twice: {_TWICE[earlier]}")
            if (earlier, later) in _ORDER:
                raise InputError(
                    f"chain has {earlier!r} before {later!r}: {_ORDER[earlier, later]}; "
                    "exchange the two"
                )


def labels(inputs: LossInputs, name: str) -> jax.Array:
    """Class numbers `[B]`, for transforms that need one class an example.

    Raises:
      InputError: the targets are mixed or smoothed.
    """
    if inputs.targets.ndim != 1:
        raise InputError(
            f"{name} needs one class an example, but the targets are probabilities "
            f"{inputs.targets.shape}; leave out mixing, and smooth after it"
        )
    return inputs.targets


def safe_counts(class_counts: jax.Array) -> jax.Array:
    """Images per class, float32 `[C]`; a class without images counts as one image."""
    return jnp.maximum(jnp.asarray(class_counts, jnp.float32), 1.0)


def cross_entropy(inputs: LossInputs) -> jax.Array:
    """Cross entropy of every example, `-sum_c t_c log softmax(z)_c`, `[B]`, unweighted."""
    if inputs.targets.ndim == 1:
        return optax.losses.softmax_cross_entropy_with_integer_labels(inputs.logits, inputs.targets)
    return optax.losses.softmax_cross_entropy(inputs.logits, inputs.targets)


def batch_loss(
    transform: LossTransform, inputs: LossInputs, state: Any, *, step: jax.Array
) -> jax.Array:
    """The scalar loss of a batch: `mean_i (w_i CE(z_i, t_i) + penalty_i)` after the transform.

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
    return jnp.mean(inputs.weights * cross_entropy(inputs) + inputs.penalty)
