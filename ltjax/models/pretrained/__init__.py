"""Pretrained backbones: where each comes from, what images it takes, and what its tensors are."""

from ltjax.models.pretrained.entries import (
    EXPORT_SUFFIX,
    PRETRAINED,
    SUFFIXES,
    Entry,
    entry_of,
    repository_of,
)
from ltjax.models.pretrained.exported import EXPORTED
from ltjax.models.pretrained.weights import Weights, weights_of

__all__ = [
    "EXPORTED",
    "EXPORT_SUFFIX",
    "PRETRAINED",
    "SUFFIXES",
    "Entry",
    "Weights",
    "entry_of",
    "repository_of",
    "weights_of",
]
