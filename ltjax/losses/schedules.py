"""Schedules of a share in [0, 1], for class weights that set in during training."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

Schedule = Callable[[ArrayLike], jax.Array]


def deferred(start_step: int) -> Schedule:
    """Schedule that is 0 before `start_step` and 1 from then on.

    Args:
      start_step: first step at which the schedule is 1.

    Returns:
      A function from the step to float32 `[]`.

    Source: Cao et al. (NeurIPS 2019), section 3.3, https://arxiv.org/abs/1906.07413

    >>> [float(deferred(2)(step)) for step in range(4)]
    [0.0, 0.0, 1.0, 1.0]
    """
    return lambda step: (jnp.asarray(step) >= start_step).astype(jnp.float32)


def ramp(start_step: int, end_step: int) -> Schedule:
    """Schedule that rises linearly from 0 at `start_step` to 1 at `end_step`.

    Args:
      start_step: last step at which the schedule is 0.
      end_step: first step at which it is 1.

    Returns:
      A function from the step to float32 `[]`.

    Source: ours.

    >>> [float(ramp(1, 3)(step)) for step in range(5)]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    length = max(end_step - start_step, 1)
    return lambda step: jnp.clip((jnp.asarray(step, jnp.float32) - start_step) / length, 0.0, 1.0)
