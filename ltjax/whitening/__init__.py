"""Channel Whitening: moments, roots and methods as pure functions, a Flax module as a shell."""

from ltjax.whitening.apply import whiten, whiten_batch, whitening_matrix
from ltjax.whitening.layers import ChannelWhitening, fold_into_dense, freeze
from ltjax.whitening.methods import METHODS
from ltjax.whitening.moments import Moments, batch_moments, shrink
from ltjax.whitening.roots import inverse_sqrt
from ltjax.whitening.standardized import StandardizedWhitening

__all__ = [
    "METHODS",
    "ChannelWhitening",
    "Moments",
    "StandardizedWhitening",
    "batch_moments",
    "fold_into_dense",
    "freeze",
    "inverse_sqrt",
    "shrink",
    "whiten",
    "whiten_batch",
    "whitening_matrix",
]
