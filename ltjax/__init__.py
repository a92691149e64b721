"""Long-tailed image recognition in JAX: Channel Whitening, B3RS and BET.

Names are imported on first use: `import ltjax` alone is cheap and changes no global state, and
`losses`, `samplers` and `whitening` work without the packages of the extra `train`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names as in _HOME, for editors and type checkers
    from ltjax.augment.mixing import mixup as mixup
    from ltjax.augment.mixing import remix as remix
    from ltjax.estimator import LongTailClassifier as LongTailClassifier
    from ltjax.losses import adjusted_logits as adjusted_logits
    from ltjax.losses import balanced_contrastive as balanced_contrastive
    from ltjax.losses import balanced_softmax as balanced_softmax
    from ltjax.losses import bet_weights as bet_weights
    from ltjax.losses import class_balanced_weights as class_balanced_weights
    from ltjax.losses import cross_entropy as cross_entropy
    from ltjax.losses import deferred as deferred
    from ltjax.losses import equalization as equalization
    from ltjax.losses import expert_diversity as expert_diversity
    from ltjax.losses import focal as focal
    from ltjax.losses import influence_balanced as influence_balanced
    from ltjax.losses import inverse_frequency_weights as inverse_frequency_weights
    from ltjax.losses import label_aware_smoothing as label_aware_smoothing
    from ltjax.losses import label_smoothing as label_smoothing
    from ltjax.losses import lade as lade
    from ltjax.losses import ldam as ldam
    from ltjax.losses import logit_adjusted_cross_entropy as logit_adjusted_cross_entropy
    from ltjax.losses import parametric_contrastive as parametric_contrastive
    from ltjax.losses import probabilistic_contrastive as probabilistic_contrastive
    from ltjax.losses import ramp as ramp
    from ltjax.losses import scheduled_weights as scheduled_weights
    from ltjax.losses import seesaw as seesaw
    from ltjax.losses import vector_scaling as vector_scaling
    from ltjax.losses import weighted_cross_entropy as weighted_cross_entropy
    from ltjax.samplers import B3RS as B3RS
    from ltjax.samplers import ClassAwareSampler as ClassAwareSampler
    from ltjax.samplers import PowerSampler as PowerSampler
    from ltjax.samplers import ProgressiveSampler as ProgressiveSampler
    from ltjax.samplers import RepeatFactorSampler as RepeatFactorSampler
    from ltjax.samplers import SamplerConfig as SamplerConfig
    from ltjax.samplers import embed as embed
    from ltjax.samplers import exposure as exposure
    from ltjax.samplers import make_sampler as make_sampler
    from ltjax.training.memory import fit as fit
    from ltjax.training.run import run as run
    from ltjax.whitening import batch_moments as batch_moments
    from ltjax.whitening import fold_into_dense as fold_into_dense
    from ltjax.whitening import inverse_sqrt as inverse_sqrt
    from ltjax.whitening import whiten as whiten
    from ltjax.whitening import whitening_matrix as whitening_matrix
    from ltjax.whitening.linen import ChannelWhitening as ChannelWhitening
    from ltjax.whitening.linen import StandardizedWhitening as StandardizedWhitening
    from ltjax.whitening.linen import freeze as freeze

__version__ = "0.1.0"

# Public names and the modules that they are imported from.
_HOME = {
    "B3RS": "ltjax.samplers",
    "ChannelWhitening": "ltjax.whitening.linen",
    "ClassAwareSampler": "ltjax.samplers",
    "LongTailClassifier": "ltjax.estimator",
    "PowerSampler": "ltjax.samplers",
    "ProgressiveSampler": "ltjax.samplers",
    "RepeatFactorSampler": "ltjax.samplers",
    "SamplerConfig": "ltjax.samplers",
    "StandardizedWhitening": "ltjax.whitening.linen",
    "adjusted_logits": "ltjax.losses",
    "balanced_contrastive": "ltjax.losses",
    "balanced_softmax": "ltjax.losses",
    "batch_moments": "ltjax.whitening",
    "bet_weights": "ltjax.losses",
    "class_balanced_weights": "ltjax.losses",
    "cross_entropy": "ltjax.losses",
    "deferred": "ltjax.losses",
    "embed": "ltjax.samplers",
    "equalization": "ltjax.losses",
    "expert_diversity": "ltjax.losses",
    "exposure": "ltjax.samplers",
    "fit": "ltjax.training.memory",
    "focal": "ltjax.losses",
    "fold_into_dense": "ltjax.whitening",
    "freeze": "ltjax.whitening.linen",
    "influence_balanced": "ltjax.losses",
    "inverse_frequency_weights": "ltjax.losses",
    "inverse_sqrt": "ltjax.whitening",
    "label_aware_smoothing": "ltjax.losses",
    "label_smoothing": "ltjax.losses",
    "lade": "ltjax.losses",
    "ldam": "ltjax.losses",
    "logit_adjusted_cross_entropy": "ltjax.losses",
    "make_sampler": "ltjax.samplers",
    "mixup": "ltjax.augment.mixing",
    "parametric_contrastive": "ltjax.losses",
    "probabilistic_contrastive": "ltjax.losses",
    "ramp": "ltjax.losses",
    "remix": "ltjax.augment.mixing",
    "run": "ltjax.training.run",
    "scheduled_weights": "ltjax.losses",
    "seesaw": "ltjax.losses",
    "vector_scaling": "ltjax.losses",
    "weighted_cross_entropy": "ltjax.losses",
    "whiten": "ltjax.whitening",
    "whitening_matrix": "ltjax.whitening",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ltjax' has no attribute {name!r}")
    from ltjax.errors import needs_train_extra

    with needs_train_extra(f"ltjax.{name}"):
        return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
