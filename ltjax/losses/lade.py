"""LADE: balanced softmax with a regularizer that calibrates the logits."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.errors import Option, number, require
from ltjax.losses.base import Counts, checked_targets, log_prior, soft_targets, widened
from ltjax.losses.combine import PRIOR, LossInputs, LossTransform
from ltjax.losses.constants import of_prior
from ltjax.losses.logit_adjustment import balanced_softmax, balanced_softmax_transform

LADE_ALPHA = Option(0.1, number(0), "lade: weight of the regularizer")
LADE_PENALTY = Option(0.1, number(0), "lade: weight of the squared bound within the regularizer")


def lade(
    logits: ArrayLike,
    labels: ArrayLike,
    class_counts: Counts,
    alpha: float = LADE_ALPHA.default,
    penalty: float = LADE_PENALTY.default,
    *,
    published: bool = False,
    axis_name: str | None = None,
) -> jax.Array:
    """Balanced softmax plus LADE's regularizer, a Donsker-Varadhan bound for every class.

        L = CE(z + log n, y) + alpha sum_c pi_c (-A_c + B_c + penalty B_c^2)
        A_c = mean of z_c over the batch's examples of class c (0 if there are none)
        B_c = log( (1/N) sum_i e^(z_ic) / (C pi_(y_i)) ),    or    / (C pi_c)    if published

    In a transform, where examples have weights, both means are weighted. The regularizer is a
    single number for the whole batch, so it is the same in every entry.

    Args:
      logits: `[B, C]`.
      labels: class numbers, int `[B]`, or probabilities `[B, C]`.
      class_counts: training images of each class, `[C]`.
      alpha: weight of the regularizer, >= 0; 0 is balanced softmax.
      penalty: weight of `B_c^2`, >= 0; the term fixes the additive constant that the bound leaves
        free.
      published: whether `B_c` has the prior of the logit's class `c`, as in the published code,
        instead of the prior of the example's class, which is the importance weight of the paper's
        equation.
      axis_name: mapped axis over which the batch is spread; means are taken over all devices.

    Returns:
      `[B]`.

    Raises:
      InputError: `alpha` or `penalty` below 0, or shapes that do not fit.

    Source: Hong et al., Disentangling Label Distribution for Long-tailed Visual Recognition
    (CVPR 2021), including its class weights `pi_c`, https://arxiv.org/abs/2012.00321; the published
    code is https://github.com/hyperconnect/LADE. On CIFAR-100-LT its commands have `alpha=0.1` and
    `penalty=0.01`, on ImageNet-LT 0.05 and 0.5, on Places-LT 0.005 and 0.1.

    >>> loss = lade(jnp.zeros((2, 2)), jnp.array([0, 1]), [1, 1], alpha=1.0)
    >>> [round(float(each), 3) for each in loss]  # log 2; A_c = B_c = 0
    [0.693, 0.693]
    """
    _check(alpha, penalty)
    z = widened(logits)
    t = soft_targets(z, checked_targets(z, labels))
    one = jnp.ones(z.shape[:1], z.dtype)
    value = _regularizer(z, t, one, log_prior(class_counts), penalty, published, axis_name)
    return balanced_softmax(logits, labels, class_counts) + alpha * value


def lade_transform(
    alpha: float = LADE_ALPHA.default,
    penalty: float = LADE_PENALTY.default,
    *,
    published: bool = False,
    axis_name: str | None = None,
) -> LossTransform:
    """`lade` as a transform of the logits with a regularizer.

    Args:
      alpha: weight of the regularizer, >= 0.
      penalty: weight of the squared bound within the regularizer, >= 0.
      published: see `lade`.
      axis_name: mapped axis over which the batch is spread.

    Returns:
      The transform; its state is `(log n, log pi)`.

    Raises:
      InputError: `alpha` or `penalty` below 0.

    Source: see `lade`.
    """
    _check(alpha, penalty)
    balanced = balanced_softmax_transform()

    def constants(prior: Counts) -> tuple[jax.Array, jax.Array]:
        return balanced.init(prior), log_prior(prior)

    def apply(inputs: LossInputs, state: Any, *, step: ArrayLike) -> LossInputs:
        return balanced.apply(inputs, state[0], step=step)

    def regularizer(inputs: LossInputs, state: Any, *, step: ArrayLike) -> jax.Array:
        del step
        logits, soft = inputs.logits, inputs.soft_targets()
        weights = inputs.weights.astype(logits.dtype)
        value = _regularizer(logits, soft, weights, state[1], penalty, published, axis_name)
        return alpha * value

    return LossTransform(of_prior(constants), apply, (PRIOR,), regularizer)


def _check(alpha: float, penalty: float) -> None:
    LADE_ALPHA.check("alpha", alpha)
    LADE_PENALTY.check("penalty", penalty)


def _regularizer(
    z: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    log_pi: jax.Array,
    penalty: float,
    published: bool,
    axis_name: str | None,
) -> jax.Array:
    """`sum_c pi_c (-A_c + B_c + penalty B_c^2)`, `[]`."""
    require(z.ndim == 2, "logits.shape", z.shape, "[B, C]")
    require(log_pi.shape == z.shape[1:], "class_counts.shape", log_pi.shape, f"{z.shape[1:]}")

    def total(x: jax.Array) -> jax.Array:
        return x if axis_name is None else jax.lax.psum(x, axis_name)

    prior = jnp.exp(log_pi).astype(z.dtype)
    classes = z.shape[1]
    targets = weights[:, None] * targets
    members = total(jnp.sum(targets, axis=0))
    tiny = jnp.finfo(z.dtype).tiny
    own = total(jnp.sum(targets * z, axis=0)) / jnp.maximum(members, tiny)
    largest = jax.lax.stop_gradient(jnp.max(z, axis=0))
    if axis_name is not None:
        largest = jax.lax.pmax(largest, axis_name)
    if published:
        ratio = weights[:, None] / (classes * prior)[None, :]
    else:
        ratio = jnp.sum(targets / (classes * prior)[None, :], axis=1)[:, None]
    scaled = total(jnp.sum(ratio * jnp.exp(z - largest[None, :]), axis=0))
    bound = largest + jnp.log(scaled / total(jnp.sum(weights)))
    return jnp.sum(prior * (-own + bound + penalty * bound**2))
