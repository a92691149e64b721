"""Losses as composable transforms, and what a config names of them."""

from ltjax.losses.bet import batch_embedded
from ltjax.losses.combine import (
    LossInputs,
    LossTransform,
    batch_loss,
    chain,
    cross_entropy,
    identity,
    loss_inputs,
)
from ltjax.losses.lade import lade
from ltjax.losses.logit_adjustment import (
    adjusted_logits,
    balanced_softmax,
    ldam,
    log_prior,
    logit_adjustment,
    vector_scaling,
)
from ltjax.losses.registry import make_loss
from ltjax.losses.reweighting import (
    class_balanced,
    class_weights,
    deferred,
    drw,
    effective_number,
    focal,
    inverse_frequency,
    ramp,
    weighted,
)
from ltjax.losses.smoothing import label_aware_smoothing, label_smoothing
from ltjax.losses.softmax_weights import equalization, seesaw

__all__ = [
    "LossInputs",
    "LossTransform",
    "adjusted_logits",
    "balanced_softmax",
    "batch_embedded",
    "batch_loss",
    "chain",
    "class_balanced",
    "class_weights",
    "cross_entropy",
    "deferred",
    "drw",
    "effective_number",
    "equalization",
    "focal",
    "identity",
    "inverse_frequency",
    "label_aware_smoothing",
    "label_smoothing",
    "lade",
    "ldam",
    "log_prior",
    "logit_adjustment",
    "loss_inputs",
    "make_loss",
    "ramp",
    "seesaw",
    "vector_scaling",
    "weighted",
]
