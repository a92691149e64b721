"""Running statistics: what both layers compute, as pure functions of the state; free of Flax.

A layer consists of its options and a state. `train` maps the state and a batch to the output and
the new state, `evaluate` whitens with the state alone; the Linen and the NNX layer only store what
these return.
"""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from ltjax.errors import Option, integer, number, require
from ltjax.whitening.batch import Past
from ltjax.whitening.functional import Whitened, apply_matrix, whiten_batch, whitening_matrix
from ltjax.whitening.methods import DIAGONAL, check_options
from ltjax.whitening.moments import batch_moments, promote

_BELOW_ONE = number(0, 1, open_high=True)
MOMENTUM = Option(0.9, _BELOW_ONE, "weight of the past in the running statistics")
MEMORY = Option(0.0, _BELOW_ONE, "share of the running covariance in training")
STATS_EVERY = Option(
    1, integer(1, 10**6), "number of steps from one update of the running statistics to the next"
)


class Options(Protocol):
    """The options of a layer, which the Linen and the NNX layer have as attributes; see `linen`."""

    @property
    def method(self) -> str:
        """Name of the method, see `whiten`."""

    @property
    def shrinkage(self) -> float | str:
        """Relative ridge `a`, or the name of a rule."""

    @property
    def groups(self) -> int:
        """Number of channel groups, each whitened separately."""

    @property
    def steps(self) -> int | None:
        """Number of Newton-Schulz steps; None iterates to rounding accuracy."""

    @property
    def native(self) -> bool:
        """Whether training uses the native eigendecomposition where it is faster."""

    @property
    def momentum(self) -> float:
        """Weight of the past in the running statistics."""

    @property
    def memory(self) -> float:
        """Share of the running covariance in training."""

    @property
    def stats_every(self) -> int:
        """Number of steps from one update of the running statistics to the next."""


class Running(NamedTuple):
    """The running statistics of a layer, its state, in float32.

    Attributes:
      mean: `[D]`.
      covariance: in the shape of `Moments.covariance`.
      shrinkage: the intensity `a` for evaluation, `[]`, or `[G]` for G > 1 groups.
      weight: total weight of the batches seen so far, `1 - momentum^t` after t updates.
      step: number of training steps, int32, if `stats_every > 1`; otherwise None.
    """

    mean: jax.Array
    covariance: jax.Array
    shrinkage: jax.Array
    weight: jax.Array
    step: jax.Array | None = None


def check_layer(options: Options, size: int) -> None:
    """Checks the options of a layer for a number of channels.

    Args:
      options: options of the layer.
      size: D, number of channels.

    Raises:
      InputError: naming the option, its value and what is allowed.

    Source: ours.
    """
    check_options(
        size,
        method=options.method,
        shrinkage=options.shrinkage,
        groups=options.groups,
        steps=options.steps,
    )
    MEMORY.check("memory", options.memory)
    require(
        options.memory == 0 or options.method != "zca_svd",
        "memory",
        options.memory,
        "0 with zca_svd, or the method zca",
    )
    MOMENTUM.check("momentum", options.momentum)
    STATS_EVERY.check("stats_every", options.stats_every)


def start(options: Options, size: int) -> Running:
    """The state before any batch: mean 0, covariance I, weight 0.

    Args:
      options: options of the layer.
      size: D, number of channels.

    Returns:
      The state.

    Source: ours.
    """
    each = size // options.groups
    lead = () if options.groups == 1 else (options.groups,)
    if options.method in DIAGONAL:
        covariance = jnp.ones((*lead, each), jnp.float32)
    else:
        covariance = jnp.broadcast_to(jnp.eye(each, dtype=jnp.float32), (*lead, each, each))
    shrinkage = 1.0 if isinstance(options.shrinkage, str) else options.shrinkage
    return Running(
        mean=jnp.zeros((size,), jnp.float32),
        covariance=covariance,
        shrinkage=jnp.full(lead, shrinkage, jnp.float32),
        weight=jnp.zeros((), jnp.float32),
        step=jnp.zeros((), jnp.int32) if options.stats_every > 1 else None,
    )


def running_matrix(options: Options, running: Running) -> jax.Array:
    """The matrix that evaluation whitens with; see `whitening_matrix`.

    Args:
      options: options of the layer.
      running: the state.

    Returns:
      `W`, in the shape that `whitening_matrix` returns.

    Source: ours.
    """
    return whitening_matrix(
        running.covariance,
        method=options.method,
        shrinkage=running.shrinkage,
        steps=options.steps,
    )


def evaluate(running: Running, matrix: jax.Array, x: jax.Array) -> jax.Array:
    """Whitens with the running mean and a given matrix.

        Z = (X - mu) W

    Args:
      running: the state.
      matrix: `W`, as `running_matrix` gives it.
      x: features `[N, D]`.

    Returns:
      `[N, D]`, float32 or wider.

    Source: ours.
    """
    wide = promote(x)
    centered = wide - running.mean.astype(wide.dtype)[None, :]
    turned = matrix if matrix.ndim == 1 else jnp.swapaxes(matrix, -1, -2)
    return apply_matrix(turned.astype(centered.dtype), centered.T).T


def train(
    options: Options,
    running: Running,
    x: jax.Array,
    *,
    mask: jax.Array | None = None,
    axis_name: str | None = None,
) -> tuple[jax.Array, Running]:
    """One training step: whitens a batch and updates the running statistics.

        w <- m w + (1 - m),    r = (1 - m) / w,    S <- S + r (S_batch - S)

    Dividing by the weight `w` corrects the averages for their start: after the first step they are
    the moments of the first batch. With `memory`, the batch is whitened with a mixture of its
    covariance and the running one before the step.

    Args:
      options: options of the layer.
      running: the state before the step.
      x: features `[N, D]`, any float dtype.
      mask: bool `[N]`; padded rows (False) do not enter the statistics, and their output is 0.
      axis_name: mapped axis over which the batch is spread.

    Returns:
      The output `[N, D]` in the dtype of `x`, and the new state, through which no gradient flows.

    Source: ours.
    """
    due, weight, rate = _schedule(options, running)
    past = Past()
    if isinstance(options.shrinkage, str):
        past = past._replace(shrinkage=running.shrinkage, rate=rate)
    if options.memory > 0:
        # A running covariance that no batch has entered yet is no past.
        share = jnp.where(running.weight > 0, options.memory, 0.0)
        past = past._replace(covariance=running.covariance, share=share)
    whitened = whiten_batch(
        x,
        method=options.method,
        shrinkage=options.shrinkage,
        groups=options.groups,
        steps=options.steps,
        mask=mask,
        axis_name=axis_name,
        native=options.native,
        past=past,
    )
    rows = jax.lax.stop_gradient(x)
    covariance = _covariance(
        options, running.covariance, rows, whitened, due, rate, mask, axis_name
    )
    shrinkage = jax.lax.stop_gradient(whitened.shrinkage).astype(jnp.float32)
    mean = _move(running.mean, whitened.moments.mean, rate)
    step = None if running.step is None else running.step + 1
    return whitened.output, Running(mean, covariance, shrinkage, weight, step)


def _schedule(options: Options, running: Running) -> tuple[jax.Array | None, jax.Array, jax.Array]:
    """Whether this step updates (None: always), the new weight and the rate."""
    weight = options.momentum * running.weight + (1 - options.momentum)
    rate = (1 - options.momentum) / weight
    if running.step is None:
        return None, weight, rate
    due = running.step % options.stats_every == 0
    return due, jnp.where(due, weight, running.weight), jnp.where(due, rate, 0.0)


def _move(running: jax.Array, fresh: jax.Array, rate: jax.Array) -> jax.Array:
    fresh = jax.lax.stop_gradient(fresh).astype(jnp.float32)
    return running + rate * (fresh - running)


def _covariance(
    options: Options,
    old: jax.Array,
    rows: jax.Array,
    whitened: Whitened,
    due: jax.Array | None,
    rate: jax.Array,
    mask: jax.Array | None,
    axis_name: str | None,
) -> jax.Array:
    """The new running covariance."""
    if due is None:
        return _move(old, whitened.moments.covariance, rate)

    # Recomputed inside the branch, so that other steps do not pay for the product.
    def update(rows: jax.Array) -> jax.Array:
        moments = batch_moments(
            rows,
            groups=options.groups,
            diagonal=options.method in DIAGONAL,
            mask=mask,
            axis_name=axis_name,
        )
        return _move(old, moments.covariance, rate)

    new: jax.Array = jax.lax.cond(due, update, lambda rows: old, rows)
    return new
