"""Long-tailed image recognition in JAX: Channel Whitening, B3RS and BET.

Names are imported on first use, so that `python -m ltjax.main` can set the environment
(host devices, BLAS threads) before JAX starts.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "B3RS": "ltjax.samplers.b3rs",
    "ChannelWhitening": "ltjax.whitening",
    "ClassAwareSampler": "ltjax.samplers.baselines",
    "PowerSampler": "ltjax.samplers.baselines",
    "ProgressiveSampler": "ltjax.samplers.baselines",
    "RepeatFactorSampler": "ltjax.samplers.baselines",
    "StandardizedWhitening": "ltjax.whitening",
    "adjusted_logits": "ltjax.losses",
    "balanced_softmax": "ltjax.losses",
    "batch_moments": "ltjax.whitening",
    "bet_weights": "ltjax.losses",
    "class_balanced_weights": "ltjax.losses",
    "cross_entropy": "ltjax.losses",
    "deferred": "ltjax.losses",
    "embed": "ltjax.samplers.bet",
    "equalization": "ltjax.losses",
    "exposure": "ltjax.samplers.exposure",
    "focal": "ltjax.losses",
    "fold_into_dense": "ltjax.whitening",
    "freeze": "ltjax.whitening",
    "inverse_frequency_weights": "ltjax.losses",
    "inverse_sqrt": "ltjax.whitening",
    "label_aware_smoothing": "ltjax.losses",
    "label_smoothing": "ltjax.losses",
    "lade": "ltjax.losses",
    "ldam": "ltjax.losses",
    "logit_adjusted_cross_entropy": "ltjax.losses",
    "make_plan": "ltjax.samplers.registry",
    "mixup": "ltjax.augment.mixing",
    "ramp": "ltjax.losses",
    "remix": "ltjax.augment.mixing",
    "run": "ltjax.training.decoupled",
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
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
