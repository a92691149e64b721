"""Losses that weight examples by how well they are predicted."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.errors import Option, number
from ltjax.losses.base import checked_targets, cross_entropy, one_class, widened
from ltjax.losses.combine import FOCAL, ONE_CLASS, LossInputs, LossTransform, identity
from ltjax.losses.constants import no_state

FOCAL_GAMMA = Option(2.0, number(0), "focal: exponent of the factor (1 - p)")


def focal(logits: ArrayLike, targets: ArrayLike, gamma: float = FOCAL_GAMMA.default) -> jax.Array:
    """Focal loss on the softmax probabilities `p`.

        -(1 - p_y)^gamma log p_y,    or    -sum_c t_c (1 - p_c)^gamma log p_c,    p = softmax(z)

    Gradients flow through the factor, too.

    Args:
      logits: `z`, `[B, C]`.
      targets: class numbers `y`, int `[B]`, or probabilities `t`, `[B, C]`.
      gamma: >= 0; 0 is cross entropy.

    Returns:
      `[B]`.

    Raises:
      InputError: `gamma` below 0, or shapes that do not fit.

    Source: Lin et al., Focal Loss for Dense Object Detection (ICCV 2017), in its softmax form,
    https://arxiv.org/abs/1708.02002

    >>> [round(float(each), 3) for each in focal(jnp.zeros((1, 2)), jnp.array([0]))]
    [0.173]
    """
    FOCAL_GAMMA.check("gamma", gamma)
    z = widened(logits)
    factor, t = _by_certainty(z, checked_targets(z, targets), gamma)
    return factor * cross_entropy(z, t)


def _by_certainty(
    logits: jax.Array, targets: jax.Array, gamma: float
) -> tuple[jax.Array, jax.Array]:
    """A factor for every example's loss, and the targets to compute it from."""
    one = jnp.ones((), logits.dtype)
    if gamma == 0:
        return one, targets
    log_p = jax.nn.log_softmax(logits, axis=-1)
    # Kept above 0, where powers below 1 have no derivative.
    missing = jnp.maximum(-jnp.expm1(log_p), jnp.finfo(log_p.dtype).tiny)
    factor = missing**gamma
    if targets.ndim == logits.ndim:
        return one, targets * factor
    return jnp.take_along_axis(factor, targets[..., None], axis=-1)[..., 0], targets


def focal_transform(gamma: float = FOCAL_GAMMA.default) -> LossTransform:
    """`focal` as a transform of the weights, or of targets that are probabilities.

    Args:
      gamma: >= 0; 0 is cross entropy.

    Returns:
      The transform.

    Raises:
      InputError: `gamma` below 0.

    Source: see `focal`.
    """
    FOCAL_GAMMA.check("gamma", gamma)

    def apply(inputs: LossInputs, state: Any, *, step: ArrayLike) -> LossInputs:
        del state, step
        factor, targets = _by_certainty(inputs.logits, inputs.targets, gamma)
        return inputs._replace(weights=inputs.weights * factor, targets=targets)

    return LossTransform(no_state, apply, (FOCAL,))


def sigmoid_focal(
    logits: ArrayLike, labels: ArrayLike, gamma: float = FOCAL_GAMMA.default
) -> jax.Array:
    """Focal loss on a sigmoid per class, summed over the classes.

        -sum_c (1 - q_c)^gamma log q_c,    q_c = sigmoid(z_c) for c = y, 1 - sigmoid(z_c) otherwise

    The code of the class-balanced loss uses this form, and multiplies it by the weight of the
    example's class. It also starts the biases of the classifier at `-log(C - 1)`; here they start
    at 0.

    Args:
      logits: `z`, `[B, C]`.
      labels: class numbers `y`, int `[B]`.
      gamma: >= 0; 0 is binary cross entropy.

    Returns:
      `[B]`.

    Raises:
      InputError: `gamma` below 0, or targets that are not one class per example.

    Source: Lin et al. (ICCV 2017), https://arxiv.org/abs/1708.02002; with class weights, Cui et al.
    (CVPR 2019), https://arxiv.org/abs/1901.05555 and https://github.com/richardaecn/class-balanced-loss

    >>> [round(float(each), 3) for each in sigmoid_focal(jnp.zeros((1, 2)), jnp.array([0]))]
    [0.347]
    """
    FOCAL_GAMMA.check("gamma", gamma)
    z = widened(logits)
    y = one_class(z, labels, "sigmoid_focal")
    own = jax.nn.one_hot(y, z.shape[-1], dtype=z.dtype)
    signed = jnp.where(own > 0, z, -z)
    # (1 - q)^gamma as exp(gamma log(1 - q)), finite for every gamma and logit.
    log_q, log_rest = jax.nn.log_sigmoid(signed), jax.nn.log_sigmoid(-signed)
    return -jnp.sum(jnp.exp(gamma * log_rest) * log_q, axis=-1)


def sigmoid_focal_transform(gamma: float = FOCAL_GAMMA.default) -> LossTransform:
    """`sigmoid_focal` as a transform: it takes the place of cross entropy.

    Args:
      gamma: >= 0; 0 is binary cross entropy.

    Returns:
      The transform.

    Raises:
      InputError: `gamma` below 0.

    Source: see `sigmoid_focal`.
    """
    FOCAL_GAMMA.check("gamma", gamma)
    return identity()._replace(
        roles=(FOCAL, ONE_CLASS), each=lambda logits, targets: sigmoid_focal(logits, targets, gamma)
    )
