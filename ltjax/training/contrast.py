"""The contrastive losses of a configuration, beside the classifier's."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ltjax.config import Config
from ltjax.losses import (
    balanced_contrastive,
    batch_loss,
    follow_directions,
    logit_adjustment_transform,
    loss_inputs,
    no_directions,
    probabilistic_logits,
)
from ltjax.losses.constants import Init, no_state
from ltjax.models.projector import Projection, Projector
from ltjax.training.inputs import AXIS
from ltjax.training.prior import ClassStatistics, with_prior


class Contrast(NamedTuple):
    """How two views of every image are compared.

    Attributes:
      weight: of the contrastive loss, beside that of the classifier on both views.
      init: makes its constants, `Resident.contrast_state`.
      compare: `(projection, labels, carried, constants, step) -> (loss, carried)` of one device;
        what is carried from step to step is `TrainState.contrast`.
    """

    weight: float
    init: Init
    compare: Callable[[Projection, jax.Array, Any, Any, jax.Array], tuple[jax.Array, Any]]


def contrast_of(config: Config, classes: ClassStatistics, steps_per_epoch: int) -> Contrast | None:
    """The contrastive loss of a configuration.

    Args:
      config: resolved configuration.
      classes: what the constants of losses are made from.
      steps_per_epoch: steps of an epoch.

    Returns:
      None where there is none.
    """
    loss = config.loss
    if not loss.contrastive:
        return None
    if loss.contrast == "bcl":
        return Contrast(loss.contrastive, no_state, _balanced(loss.temperature))
    prior = with_prior(logit_adjustment_transform(), classes, steps_per_epoch)

    def compare(
        found: Projection, labels: jax.Array, carried: Any, constants: Any, step: jax.Array
    ) -> tuple[jax.Array, Any]:
        first = step % steps_per_epoch == 0
        directions = follow_directions(
            carried, found.vectors, labels, new_epoch=first, axis_name=AXIS
        )
        mean = directions.used.mean
        logits = probabilistic_logits(found.vectors, mean, temperature=loss.temperature)
        inputs = loss_inputs(logits, labels)
        return batch_loss(prior, inputs, constants, step=step, bet=None), directions

    return Contrast(loss.contrastive, prior.init, compare)


def _balanced(temperature: float) -> Callable[..., tuple[jax.Array, Any]]:
    def compare(
        found: Projection, labels: jax.Array, carried: Any, constants: Any, step: jax.Array
    ) -> tuple[jax.Array, Any]:
        del constants, step
        assert found.centers is not None  # see `projector_of`
        each = balanced_contrastive(
            found.vectors, labels, found.centers, temperature=temperature, axis_name=AXIS
        )
        return jnp.mean(each), carried

    return compare


def carried_of(config: Config, num_classes: int) -> Any:
    """What the contrastive loss carries from step to step, before the first one.

    Args:
      config: resolved configuration.
      num_classes: C.

    Returns:
      An empty tuple where it carries nothing.
    """
    if not config.loss.contrastive or config.loss.contrast == "bcl":
        return ()
    return no_directions(num_classes, config.model.projection)


def projector_of(config: Config, num_classes: int) -> Projector:
    """What makes the vectors that the contrastive loss of a configuration compares.

    Args:
      config: resolved configuration.
      num_classes: C.

    Returns:
      The module.
    """
    return Projector(num_classes, config.model.projection, centers=config.loss.contrast == "bcl")
