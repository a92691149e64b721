"""Channel Whitening: pure functions, and layers for Flax Linen and Flax NNX.

The functions are here; the layers, `ChannelWhitening` and `StandardizedWhitening`, are in the
modules `linen` and `nnx`, which are imported on first use, so that the functions do without Flax.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ltjax.whitening.functional import (
    Whitened,
    fold_into_dense,
    whiten,
    whiten_batch,
    whitening_matrix,
)
from ltjax.whitening.methods import WHITENINGS
from ltjax.whitening.moments import Moments, batch_moments, shrink
from ltjax.whitening.options import WhiteningConfig
from ltjax.whitening.roots import inverse_sqrt

if TYPE_CHECKING:
    from ltjax.whitening import linen, nnx

__all__ = [
    "WHITENINGS",
    "Moments",
    "Whitened",
    "WhiteningConfig",
    "batch_moments",
    "fold_into_dense",
    "inverse_sqrt",
    "linen",
    "nnx",
    "shrink",
    "whiten",
    "whiten_batch",
    "whitening_matrix",
]


if not TYPE_CHECKING:  # where it would make every name of the module Any

    def __getattr__(name: str) -> Any:
        if name in ("linen", "nnx"):
            return importlib.import_module(f"ltjax.whitening.{name}")
        raise AttributeError(f"module 'ltjax.whitening' has no attribute {name!r}")
