"""Losses as composable transforms, mixing of batches, and what a config names of them."""

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
from ltjax.losses.lade import lade
from ltjax.losses.make import make_loss, make_mixing
from ltjax.losses.margins import (
    adjusted_logits,
    balanced_softmax,
    ldam,
    log_prior,
    logit_adjustment,
    vector_scaling,
)
from ltjax.losses.mixing import BatchMixing, draw_shares, mix, mixup, partners, remix
from ltjax.losses.negatives import equalization, seesaw
from ltjax.losses.schedules import deferred, ramp
from ltjax.losses.smoothing import label_aware_smoothing, label_smoothing
from ltjax.losses.weighting import (
    class_balanced,
    class_weights,
    drw,
    effective_number,
    focal,
    inverse_frequency,
    weighted,
)

__all__ = [
    "BatchMixing",
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
    "draw_shares",
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
    "make_mixing",
    "mix",
    "mixup",
    "partners",
    "ramp",
    "remix",
    "seesaw",
    "vector_scaling",
    "weighted",
]
