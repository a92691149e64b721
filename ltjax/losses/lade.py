"""LADE: balanced softmax with a regulariser that calibrates the logits."""

import jax
import jax.numpy as jnp

from ltjax.errors import require
from ltjax.losses.combine import PRIOR, LossInputs, LossTransform
from ltjax.losses.logit_adjustment import balanced_softmax, log_prior


def lade(
    alpha: float = 0.1, penalty: float = 0.1, *, axis_name: str | None = None
) -> LossTransform:
    """Balanced softmax plus the Donsker-Varadhan bound of every class, regularised.

        L = CE(z + log n, y) + alpha sum_c pi_c (-A_c + B_c + penalty B_c^2)
        A_c = mean of z_c over the batch's examples of class c (0 where there are none)
        B_c = log( (1/N) sum_i e^(z_ic) / (C pi_(y_i)) )

    Args:
      alpha: weight of the regulariser; 0 is balanced softmax.
      penalty: weight of `B_c^2`, which removes the bound's free constant.
      axis_name: mapped axis over which the batch is spread; means are over all of it.

    Returns:
      A transform of the logits and of the penalty.

    Source: Hong et al., Disentangling Label Distribution for Long-tailed Visual Recognition
    (CVPR 2021), with its weights `pi_c` of the classes.
    """
    require(alpha >= 0, "lade_alpha", alpha, "a number >= 0")
    require(penalty >= 0, "lade_penalty", penalty, "a number >= 0")
    balanced = balanced_softmax()

    def total(x: jax.Array) -> jax.Array:
        return x if axis_name is None else jax.lax.psum(x, axis_name)

    def init(class_counts):
        return balanced.init(class_counts), log_prior(class_counts)

    def apply(inputs: LossInputs, state, *, step) -> LossInputs:
        z, targets = inputs.logits, inputs.soft_targets()
        prior = jnp.exp(state[1]).astype(z.dtype)
        classes = z.shape[1]
        members = total(jnp.sum(targets, axis=0))
        tiny = jnp.finfo(z.dtype).tiny
        own = total(jnp.sum(targets * z, axis=0)) / jnp.maximum(members, tiny)
        largest = jax.lax.stop_gradient(jnp.max(z, axis=0))
        if axis_name is not None:
            largest = jax.lax.pmax(largest, axis_name)
        ratio = jnp.sum(targets / (classes * prior)[None, :], axis=1)
        scaled = total(jnp.sum(ratio[:, None] * jnp.exp(z - largest[None, :]), axis=0))
        size = total(jnp.asarray(z.shape[0], z.dtype))
        bound = largest + jnp.log(scaled / size)
        value = jnp.sum(prior * (-own + bound + penalty * bound**2))
        out = balanced.apply(inputs, state[0], step=step)
        return out._replace(penalty=out.penalty + alpha * value)

    return LossTransform(init, apply, (PRIOR,))
