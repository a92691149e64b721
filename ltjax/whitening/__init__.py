"""Channel Whitening: moments, roots and methods as pure functions, a Flax module as a shell."""

from ltjax.whitening.functional import fold_into_dense, whiten, whiten_batch, whitening_matrix
from ltjax.whitening.linen import ChannelWhitening, StandardizedWhitening, freeze
from ltjax.whitening.methods import METHODS
from ltjax.whitening.moments import Moments, batch_moments, shrink
from ltjax.whitening.roots import inverse_sqrt

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
