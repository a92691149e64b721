"""Batches for long-tailed data: which images make up which batch, as sequences of NumPy arrays.

A sampler is a function of its arguments, its seed and the step: `sampler[step]` is a batch of
image indices, `len(sampler)` the number of steps in an epoch. It rests on NumPy alone, so it serves
any framework and any loader, such as grain (https://google-grain.readthedocs.io).
"""

from ltjax.samplers.b3rs import B3RS
from ltjax.samplers.base import BatchSampler
from ltjax.samplers.baselines import (
    ClassAwareSampler,
    PowerSampler,
    ProgressiveSampler,
    RepeatFactorSampler,
)
from ltjax.samplers.bet import embed, embedded_slots
from ltjax.samplers.counting import exposure
from ltjax.samplers.labels import LabelIndex, index_labels
from ltjax.samplers.prefetch import PrefetchSampler
from ltjax.samplers.registry import SAMPLERS, SamplerConfig, make_sampler

__all__ = [
    "B3RS",
    "SAMPLERS",
    "BatchSampler",
    "ClassAwareSampler",
    "LabelIndex",
    "PowerSampler",
    "PrefetchSampler",
    "ProgressiveSampler",
    "RepeatFactorSampler",
    "SamplerConfig",
    "embed",
    "embedded_slots",
    "exposure",
    "index_labels",
    "make_sampler",
]
