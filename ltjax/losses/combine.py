"""Losses as transforms that are applied one after another: how the trainer composes them.

A transform edits the logits, targets or weights of a batch by the same mathematics as the loss
function of the same name; `batch_loss` reduces the result to a scalar.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.errors import InputError
from ltjax.losses.base import Counts, checked_targets, cross_entropy, soft_targets, widened
from ltjax.losses.constants import Init, no_state


class LossInputs(NamedTuple):
    """What a loss is computed from.

    Attributes:
      logits: `[B, C]`.
      targets: class numbers int `[B]`, or probabilities `[B, C]`.
      weights: `[B]`; the batch loss is the mean of `weights * cross entropy`.
      divisor: `[B]`, by whose mean the batch loss is divided; None is 1. Losses that average by
        their class weights set it.
      features: inputs of the classifier `[B, D]`, for losses that need them, or None.
      slots: number of each example in the step, over all devices and views, int32 `[B]`, of which
        random draws are a function; None is the order.
    """

    logits: jax.Array
    targets: jax.Array
    weights: jax.Array
    divisor: jax.Array | None = None
    features: jax.Array | None = None
    slots: jax.Array | None = None

    def soft_targets(self) -> jax.Array:
        """Targets as probabilities `[B, C]`, in the dtype of the logits.

        Returns:
          `[B, C]`; class numbers become one-hot vectors.
        """
        return soft_targets(self.logits, self.targets)


class Apply(Protocol):
    """`(inputs, state, *, step) -> inputs`."""

    def __call__(self, inputs: LossInputs, state: Any, *, step: ArrayLike) -> LossInputs: ...


class Regularizer(Protocol):
    """`(inputs, state, *, step) -> scalar`."""

    def __call__(self, inputs: LossInputs, state: Any, *, step: ArrayLike) -> jax.Array: ...


class LossTransform(NamedTuple):
    """A loss as a pair of pure functions, like `optax.GradientTransformation`.

    Attributes:
      init: `(class_counts [C], prior [C] or None) -> state`, a pytree of constants such as log
        priors; see `Init`.
      apply: `(inputs, state, *, step) -> inputs`.
      roles: what the transform does; `chain` refuses combinations and orders of roles that make no
        sense.
      regularizer: `(inputs, state, *, step) -> scalar []`, or None. It is computed from the inputs
        that reach this transform, and its value is added to the loss of the batch.
      each: `(logits [B, C], targets) -> [B]`, the loss of every example, or None for cross entropy.

    Source: the interface follows `optax.GradientTransformation`,
    https://optax.readthedocs.io/en/latest/api/transformations.html
    """

    init: Init
    apply: Apply
    roles: tuple[str, ...] = ()
    regularizer: Regularizer | None = None
    each: Callable[[jax.Array, jax.Array], jax.Array] | None = None


# Roles that may occur at most once in a chain, and why a second one is meaningless.
PRIOR, MARGIN, ONE_CLASS = "class prior", "margin", "one class an example"
SMOOTHING, CLASS_WEIGHTS, FOCAL = "smoothing", "class weights", "focal"
_TWICE = {
    PRIOR: "the class prior would be corrected twice; keep one",
    MARGIN: "two margins are one larger margin; raise max_margin instead",
    SMOOTHING: "smooth once, with a larger epsilon",
    CLASS_WEIGHTS: "rare classes would be weighted twice; keep one",
    FOCAL: "raise gamma instead",
}
# Pairs (earlier, later) of roles in an order that makes no sense, and why.
_ORDER = {
    (PRIOR, MARGIN): "the margin's scale would multiply the log prior",
    (SMOOTHING, ONE_CLASS): "it needs one class an example, not smoothed targets",
    (CLASS_WEIGHTS, SMOOTHING): "smoothing would spread weights, not probabilities",
    (FOCAL, PRIOR): "its weights would be of probabilities that change after it",
    (FOCAL, MARGIN): "its weights would be of probabilities that change after it",
    (FOCAL, SMOOTHING): "smoothing would spread weights, not probabilities",
}


def loss_inputs(
    logits: ArrayLike, targets: ArrayLike, features: ArrayLike | None = None
) -> LossInputs:
    """Makes `LossInputs` in which every example has weight 1.

    Args:
      logits: `[B, C]`, any float dtype; half precision is cast to float32.
      targets: class numbers, int `[B]`, or probabilities `[B, C]`.
      features: inputs of the classifier, `[B, D]`, which `influence_balanced` needs, or None.

    Returns:
      The inputs of an untransformed loss.

    Raises:
      InputError: targets that do not fit the logits.

    Source: ours.

    >>> loss_inputs(jnp.zeros((2, 4)), jnp.array([0, 1])).weights.tolist()
    [1.0, 1.0]
    """
    wide = widened(logits)
    weights = jnp.ones(wide.shape[:1], wide.dtype)
    given = None if features is None else jnp.asarray(features)
    return LossInputs(wide, checked_targets(wide, targets), weights, features=given)


def of_logits(
    init: Init,
    edit: Callable[[jax.Array, jax.Array, Any], jax.Array],
    roles: tuple[str, ...],
    regularizer: Regularizer | None = None,
) -> LossTransform:
    """Makes a transform that edits the logits and leaves targets and weights as they are.

    Args:
      init: makes the state, a pytree of constants; see `Init`.
      edit: `(logits, targets, state) -> logits`.
      roles: see `LossTransform`.
      regularizer: see `LossTransform`.

    Returns:
      The transform.

    Source: ours.
    """

    def apply(inputs: LossInputs, state: Any, *, step: ArrayLike) -> LossInputs:
        del step
        return inputs._replace(logits=edit(inputs.logits, inputs.targets, state))

    return LossTransform(init, apply, roles, regularizer)


def identity() -> LossTransform:
    """Plain cross entropy: a transform that leaves the inputs as they are.

    Returns:
      The transform.

    Source: ours.
    """

    def apply(inputs: LossInputs, state: Any, *, step: ArrayLike) -> LossInputs:
        del state, step
        return inputs

    return LossTransform(no_state, apply)


def chain(*transforms: LossTransform) -> LossTransform:
    """Applies transforms one after another, first to last.

    Args:
      *transforms: any number of transforms; without any, the result is the identity.

    Returns:
      A transform whose state is the tuple of their states and whose regularizer is the sum of
      their regularizers.

    Raises:
      InputError: transforms that do not go together, or not in this order.

    Source: the interface follows `optax.chain`,
    https://optax.readthedocs.io/en/latest/api/combining_optimizers.html

    >>> from ltjax.losses import drw_transform, logit_adjustment_transform
    >>> chain(logit_adjustment_transform(), drw_transform(start_step=100)).roles
    ('class prior', 'class weights')
    """
    roles = tuple(role for t in transforms for role in t.roles)
    _check_order(roles)

    def init(class_counts: Counts, prior: Counts | None = None) -> tuple[Any, ...]:
        return tuple(t.init(class_counts, prior) for t in transforms)

    def apply(inputs: LossInputs, state: Any, *, step: ArrayLike) -> LossInputs:
        for transform, own in zip(transforms, state, strict=True):
            inputs = transform.apply(inputs, own, step=step)
        return inputs

    def regularizer(inputs: LossInputs, state: Any, *, step: ArrayLike) -> jax.Array:
        total = jnp.zeros((), inputs.logits.dtype)
        for transform, own in zip(transforms, state, strict=True):
            if transform.regularizer is not None:
                total = total + transform.regularizer(inputs, own, step=step)
            inputs = transform.apply(inputs, own, step=step)
        return total

    regularized = any(t.regularizer is not None for t in transforms)
    each = next((t.each for t in transforms if t.each is not None), None)
    return LossTransform(init, apply, roles, regularizer if regularized else None, each)


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


def by_epoch(transform: LossTransform, steps_per_epoch: int) -> LossTransform:
    """A loss whose prior changes from epoch to epoch, as that of progressive sampling does.

    Args:
      transform: the loss of one epoch.
      steps_per_epoch: steps of an epoch.

    Returns:
      A transform whose `init` takes a prior `[E, C]`, one row per epoch, and whose state has a
      leading axis of epochs. Epochs after the last row use that row.

    Source: ours.

    >>> from ltjax.losses import balanced_softmax_transform
    >>> loss = by_epoch(balanced_softmax_transform(), steps_per_epoch=10)
    >>> loss.init([3, 1], [[0.75, 0.25], [0.5, 0.5]]).shape
    (2, 2)
    """

    def init(class_counts: Counts, prior: Counts | None = None) -> Any:
        rows = jnp.asarray([class_counts] if prior is None else prior)
        return jax.tree.map(
            lambda *each: jnp.stack(each), *(transform.init(class_counts, row) for row in rows)
        )

    def now(state: Any, step: ArrayLike) -> Any:
        epoch = jnp.asarray(step) // steps_per_epoch
        return jax.tree.map(lambda x: x[jnp.minimum(epoch, len(x) - 1)], state)

    def apply(inputs: LossInputs, state: Any, *, step: ArrayLike) -> LossInputs:
        return transform.apply(inputs, now(state, step), step=step)

    def regularizer(inputs: LossInputs, state: Any, *, step: ArrayLike) -> jax.Array:
        assert transform.regularizer is not None  # else this function is not used
        return transform.regularizer(inputs, now(state, step), step=step)

    extra = None if transform.regularizer is None else regularizer
    return LossTransform(init, apply, transform.roles, extra, transform.each)


def batch_loss(
    transform: LossTransform,
    inputs: LossInputs,
    state: Any,
    *,
    step: ArrayLike,
    bet: jax.Array | None,
    axis_name: str | None = None,
) -> jax.Array:
    """The scalar loss of a batch: transforms the inputs and averages the cross entropy.

        mean_i(w_i b_i CE(z_i, t_i)) / mean_i(b_i d_i) + regularizer

    `d` is the divisor of losses that average by their class weights, and 1 for all others.

    Inside a mapped axis this is the part of one device; the mean over the devices is the loss of
    the batch.

    Args:
      transform: the loss.
      inputs: what `loss_inputs` makes of logits and targets, before any transform.
      state: `transform.init(class_counts)`.
      step: training step, int `[]`, for schedules.
      bet: `b`, BET's weights `[B]`, which `bet_weights` makes of the sampler's flags, or None if no
        example is embedded. There is no default, so that BET cannot be left out by oversight.
      axis_name: mapped axis over which the batch is spread; the divisor is averaged over all
        devices.

    Returns:
      The loss, `[]`.

    Source: ours.

    >>> inputs = loss_inputs(jnp.zeros((2, 4)), jnp.array([0, 1]))
    >>> round(float(batch_loss(identity(), inputs, (), step=0, bet=None)), 4)  # log 4
    1.3863
    """
    extra = None
    if transform.regularizer is not None:
        extra = transform.regularizer(_weighted(inputs, bet), state, step=step)
    inputs = transform.apply(inputs, state, step=step)
    weights, divisor = _weighted(inputs, bet).weights, inputs.divisor
    each = weights * (transform.each or cross_entropy)(inputs.logits, inputs.targets)
    if divisor is not None:
        counted = jnp.mean(divisor if bet is None else divisor * bet.astype(divisor.dtype))
        if axis_name is not None:
            counted = jax.lax.pmean(counted, axis_name)
        each = each / jnp.maximum(counted, jnp.finfo(counted.dtype).tiny)
    return jnp.mean(each if extra is None else each + extra)


def _weighted(inputs: LossInputs, bet: jax.Array | None) -> LossInputs:
    """The inputs with BET's weights."""
    if bet is None:
        return inputs
    return inputs._replace(weights=inputs.weights * bet.astype(inputs.weights.dtype))
