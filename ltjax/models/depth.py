"""Stochastic depth: training drops residual branches at random, later ones more often."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.errors import Option, number
from ltjax.models.layers import Normed

STOCHASTIC_DEPTH = Option(
    0.0,
    number(0, 1, open_high=True),
    "resnets, vits: probability that training drops the last residual branch for an image; that of "
    "the branches before it falls linearly to 0; 0 turns it off",
)
# Where a training step gives the backbone a PRNG key for every example.
DEPTH = "depth"


def drop_rates(last: float, blocks: int) -> list[float]:
    """The probabilities of dropping the branches of a network's blocks.

        last l / L,    l = 1, ..., L

    Args:
      last: probability of the last block, in [0, 1).
      blocks: L.

    Returns:
      L numbers.

    Source: Huang et al., Deep Networks with Stochastic Depth (ECCV 2016),
    https://arxiv.org/abs/1603.09382, its linear rule.

    >>> drop_rates(0.5, 2)
    [0.25, 0.5]
    """
    return [last * number / blocks for number in range(1, blocks + 1)]


def branch_scale(keys: jax.Array, branch: int, rate: float) -> jax.Array:
    """What each example's residual branch is multiplied by: 0, or `1 / (1 - rate)`.

    Its mean is 1, so that the network that is evaluated keeps every branch as it is.

    Args:
      keys: PRNG keys of the examples, `[B]`.
      branch: number of the branch, which has draws of its own.
      rate: probability of 0, in [0, 1).

    Returns:
      float32 `[B]`.

    Source: Huang et al. (ECCV 2016), who drop a branch for a whole batch and scale in evaluation;
    for each example and with the scale in training, as in timm.
    """
    drawn = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, branch)))(keys)
    return jnp.where(drawn < rate, 0.0, 1 / (1 - rate))


def branch_scales(
    backbone: nn.Module, last: float, blocks: int, *, train: bool, branches: int = 1
) -> list[list[jax.Array | None]]:
    """The scales of all residual branches of a backbone in a training step.

    Args:
      backbone: the module that is called; its collection `DEPTH` holds `keys`, `[B]`.
      last: probability of dropping the last block's branches.
      blocks: number of blocks.
      train: whether it is trained.
      branches: of a block, which share its probability.

    Returns:
      For every block, for each of its branches `[B]`, or None where nothing is dropped: in
      evaluation, and where batch statistics are measured, which gives no keys.

    Source: ours.
    """
    if not (train and last and backbone.has_variable(DEPTH, "keys")):
        return [[None] * branches for _ in range(blocks)]
    keys: jax.Array = backbone.get_variable(DEPTH, "keys")
    return [
        [branch_scale(keys, block * branches + branch, rate) for branch in range(branches)]
        for block, rate in enumerate(drop_rates(last, blocks))
    ]


def scaled(branch: jax.Array, scale: jax.Array | None) -> jax.Array:
    """A residual branch times the scale of each example.

    Args:
      branch: `[B, ...]`.
      scale: `[B]`, or None for the branch as it is.

    Returns:
      The shape and dtype of the branch.

    Source: ours.
    """
    if scale is None:
        return branch
    return branch * scale.astype(branch.dtype).reshape(-1, *[1] * (branch.ndim - 1))


def residual(branch: Normed, shortcut: jax.Array, scale: jax.Array | None) -> Normed:
    """The end of a residual block, `relu(scale branch + shortcut)`.

    Args:
      branch: output of its last batch norm, which may not be computed yet.
      shortcut: `[B, H, W, C]`.
      scale: `[B]`, or None, where a native kernel may compute the block's end along with the next
        convolution; with a scale it is computed here.

    Returns:
      The output of the block, which may not be computed yet.

    Source: ours.
    """
    if scale is None:
        return branch._replace(shortcut=shortcut, relu=True)
    return Normed(nn.relu(scaled(branch.value(), scale) + shortcut))
