"""The contrastive losses of a configuration, beside the classifier's."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from ltjax.config import Config
from ltjax.losses import (
    balanced_contrastive,
    batch_loss,
    empty_queue,
    enqueued,
    follow_directions,
    logit_adjustment_transform,
    loss_inputs,
    no_directions,
    parametric_contrastive,
    probabilistic_logits,
)
from ltjax.losses.constants import Init, no_state
from ltjax.models.projector import Projection, Projector
from ltjax.training.inputs import AXIS
from ltjax.training.prior import ClassStatistics, with_prior


class Views(NamedTuple):
    """What a contrastive loss sees of a batch: all first views, then all second ones.

    Attributes:
      projection: of both views, `[2 B, P]`.
      labels: int `[2 B]`.
      logits: of the classifier as its loss shifts them, `[2 B, C]`.
      bet: BET's weights `[2 B]`, or None where no example is embedded.
    """

    projection: Projection
    labels: chex.Array
    logits: chex.Array
    bet: chex.Array | None


# `(views, carried, constants, step) -> (loss, carried)`
Compare = Callable[[Views, Any, Any, jax.Array], tuple[jax.Array, Any]]


class Contrast(NamedTuple):
    """How two views of every image are compared.

    Attributes:
      weight: of the contrastive loss, beside that of the classifier on both views.
      init: makes its constants, `Resident.contrast_state`.
      compare: `(views, carried, constants, step) -> (loss, carried)` of one device; what is
        carried from step to step is `TrainState.contrast`.
    """

    weight: float
    init: Init
    compare: Compare


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
    if loss.contrast == "paco":
        return Contrast(loss.contrastive, no_state, _parametric(config))
    prior = with_prior(logit_adjustment_transform(), classes, steps_per_epoch)

    def compare(
        views: Views, carried: Any, constants: Any, step: jax.Array
    ) -> tuple[jax.Array, Any]:
        vectors, labels = views.projection.vectors, views.labels
        first = step % steps_per_epoch == 0
        directions = follow_directions(carried, vectors, labels, new_epoch=first, axis_name=AXIS)
        mean = directions.used.mean
        logits = probabilistic_logits(vectors, mean, temperature=loss.temperature)
        inputs = loss_inputs(logits, labels)
        return batch_loss(prior, inputs, constants, step=step, bet=views.bet), directions

    return Contrast(loss.contrastive, prior.init, compare)


def _balanced(temperature: float) -> Compare:
    def compare(
        views: Views, carried: Any, constants: Any, step: jax.Array
    ) -> tuple[jax.Array, Any]:
        del constants, step
        vectors, centers = views.projection
        assert centers is not None  # see `projector_of`
        each = balanced_contrastive(
            vectors, views.labels, centers, temperature=temperature, axis_name=AXIS
        )
        return jnp.mean(_weighted(each, views.bet)), carried

    return compare


def _parametric(config: Config) -> Compare:
    """PaCo, whose centers are the classifier's."""
    loss = config.loss

    def compare(
        views: Views, carried: Any, constants: Any, step: jax.Array
    ) -> tuple[jax.Array, Any]:
        del constants, step
        vectors, labels = views.projection.vectors, views.labels
        each = parametric_contrastive(
            vectors,
            labels,
            views.logits,
            carried or None,
            alpha=loss.paco_alpha,
            beta=loss.paco_beta,
            gamma=loss.paco_gamma,
            temperature=loss.temperature,
            axis_name=AXIS,
        )
        if carried:  # one view of an image is kept, as in the published code
            half = len(labels) // 2
            carried = enqueued(carried, vectors[half:], labels[half:], axis_name=AXIS)
        return jnp.mean(_weighted(each, views.bet)), carried

    return compare


def _weighted(each: jax.Array, bet: jax.Array | None) -> jax.Array:
    """The loss of every example times BET's weights, as the classifier's loss is weighted."""
    return each if bet is None else bet * each


def carried_of(config: Config, num_classes: int) -> Any:
    """What the contrastive loss carries from step to step, before the first one.

    Args:
      config: resolved configuration.
      num_classes: C.

    Returns:
      An empty tuple where it carries nothing.
    """
    loss, size = config.loss, config.model.projection
    if loss.contrastive and loss.contrast == "proco":
        return no_directions(num_classes, size)
    if loss.contrastive and loss.contrast == "paco" and loss.paco_queue:
        return empty_queue(loss.paco_queue, size)
    return ()


def projector_of(config: Config, num_classes: int) -> Projector:
    """What makes the vectors that the contrastive loss of a configuration compares.

    Args:
      config: resolved configuration.
      num_classes: C.

    Returns:
      The module.
    """
    return Projector(num_classes, config.model.projection, centers=config.loss.contrast == "bcl")
