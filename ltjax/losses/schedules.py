"""Schedules of weights in 0 ... 1, functions of the step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def deferred(start_step: int) -> Callable[[jax.Array], jax.Array]:
    """0 before `start_step`, 1 from it on.

    >>> [float(deferred(2)(step)) for step in range(4)]
    [0.0, 0.0, 1.0, 1.0]
    """
    return lambda step: (jnp.asarray(step) >= start_step).astype(jnp.float32)


def ramp(start_step: int, end_step: int) -> Callable[[jax.Array], jax.Array]:
    """Linear from 0 at `start_step` to 1 at `end_step`.

    >>> [float(ramp(1, 3)(step)) for step in range(5)]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    length = max(end_step - start_step, 1)
    return lambda step: jnp.clip((jnp.asarray(step, jnp.float32) - start_step) / length, 0.0, 1.0)
