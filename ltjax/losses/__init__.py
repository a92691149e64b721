"""Losses of long-tailed recognition: functions, and transforms of them for a trainer."""

from ltjax.losses.base import cross_entropy, log_prior
from ltjax.losses.bet import bet_weights
from ltjax.losses.combine import (
    LossInputs,
    LossTransform,
    batch_loss,
    by_epoch,
    chain,
    identity,
    loss_inputs,
)
from ltjax.losses.contrastive import balanced_contrastive
from ltjax.losses.experts import expert_diversity
from ltjax.losses.focal import (
    focal,
    focal_transform,
    sigmoid_focal,
    sigmoid_focal_transform,
)
from ltjax.losses.influence import influence_balanced, influence_balanced_transform
from ltjax.losses.lade import lade, lade_transform
from ltjax.losses.logit_adjustment import (
    adjusted_logits,
    balanced_softmax,
    balanced_softmax_transform,
    logit_adjusted_cross_entropy,
    logit_adjustment_transform,
    vector_scaling,
    vector_scaling_transform,
)
from ltjax.losses.margins import ldam, ldam_transform
from ltjax.losses.parametric import Queue, empty_queue, enqueued, parametric_contrastive
from ltjax.losses.probabilistic import (
    ClassDirections,
    follow_directions,
    no_directions,
    probabilistic_contrastive,
    probabilistic_logits,
)
from ltjax.losses.registry import LossConfig, RunFacts, make_loss
from ltjax.losses.reweighting import (
    class_balanced_transform,
    class_balanced_weights,
    class_weights_transform,
    drw_transform,
    inverse_frequency_transform,
    inverse_frequency_weights,
    scheduled_weights,
    weighted_cross_entropy,
)
from ltjax.losses.schedules import deferred, ramp
from ltjax.losses.smoothing import (
    label_aware_smoothing,
    label_aware_smoothing_transform,
    label_smoothing,
    label_smoothing_transform,
)
from ltjax.losses.softmax_weights import (
    equalization,
    equalization_transform,
    seesaw,
    seesaw_transform,
)

__all__ = [
    "ClassDirections",
    "LossConfig",
    "LossInputs",
    "LossTransform",
    "Queue",
    "RunFacts",
    "adjusted_logits",
    "balanced_contrastive",
    "balanced_softmax",
    "balanced_softmax_transform",
    "batch_loss",
    "bet_weights",
    "by_epoch",
    "chain",
    "class_balanced_transform",
    "class_balanced_weights",
    "class_weights_transform",
    "cross_entropy",
    "deferred",
    "drw_transform",
    "empty_queue",
    "enqueued",
    "equalization",
    "equalization_transform",
    "expert_diversity",
    "focal",
    "focal_transform",
    "follow_directions",
    "identity",
    "influence_balanced",
    "influence_balanced_transform",
    "inverse_frequency_transform",
    "inverse_frequency_weights",
    "label_aware_smoothing",
    "label_aware_smoothing_transform",
    "label_smoothing",
    "label_smoothing_transform",
    "lade",
    "lade_transform",
    "ldam",
    "ldam_transform",
    "log_prior",
    "logit_adjusted_cross_entropy",
    "logit_adjustment_transform",
    "loss_inputs",
    "make_loss",
    "no_directions",
    "parametric_contrastive",
    "probabilistic_contrastive",
    "probabilistic_logits",
    "ramp",
    "scheduled_weights",
    "seesaw",
    "seesaw_transform",
    "sigmoid_focal",
    "sigmoid_focal_transform",
    "vector_scaling",
    "vector_scaling_transform",
    "weighted_cross_entropy",
]
