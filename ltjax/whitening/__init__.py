"""Channel Whitening: moments and roots as pure functions, a Flax module as a shell."""

from ltjax.whitening.layers import ChannelWhitening
from ltjax.whitening.moments import Moments, batch_moments, shrink
from ltjax.whitening.roots import inverse_sqrt, whiten, whitening_matrix

__all__ = [
    "ChannelWhitening",
    "Moments",
    "batch_moments",
    "inverse_sqrt",
    "shrink",
    "whiten",
    "whitening_matrix",
]
