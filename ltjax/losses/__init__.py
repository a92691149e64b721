"""Losses as composable transforms, and the one that a config names."""

from ltjax.errors import require
from ltjax.losses.base import (
    LossInputs,
    LossTransform,
    batch_loss,
    chain,
    cross_entropy,
    identity,
    loss_inputs,
)
from ltjax.losses.embedded import batch_embedded
from ltjax.losses.margins import log_prior, logit_adjustment

__all__ = [
    "LossInputs",
    "LossTransform",
    "batch_embedded",
    "batch_loss",
    "chain",
    "cross_entropy",
    "identity",
    "log_prior",
    "logit_adjustment",
    "loss_inputs",
    "make_loss",
]

LOSSES = ("cross_entropy", "logit_adjustment")


def make_loss(
    *, name: str, tau: float, embedded_weight: float, embedded: bool, axis_name: str | None
) -> LossTransform:
    """Builds the loss that a config names.

    Args:
      name: one of `LOSSES`.
      tau: strength of the logit adjustment.
      embedded_weight: BET's `w`.
      embedded: whether the batches have embedded slots (BET).
      axis_name: mapped axis over which batches are spread.

    Raises:
      InputError: an unknown name or a weight out of range.
    """
    require(name in LOSSES, "loss.name", name, f"one of {', '.join(LOSSES)}")
    base = logit_adjustment(tau) if name == "logit_adjustment" else identity()
    if not embedded:
        return base
    return chain(base, batch_embedded(embedded_weight, axis_name=axis_name))
