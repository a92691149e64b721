"""Decides whether a run trains on native kernels (`ltjax.kernels`)."""

import math
from typing import NamedTuple

import jax

from ltjax.config import Config
from ltjax.kernels.build import load

# A build takes 4 to 12 seconds. From this many pixels of training images on, it saves more, even
# with the smallest networks here; that is one or two epochs of CIFAR-10-LT.
PAYS_FROM_PIXELS = 30_000_000


class Native(NamedTuple):
    """Whether a run uses native kernels.

    Attributes:
      used: whether it does.
      reason: why it does not, where it was to; else empty.
    """

    used: bool
    reason: str = ""

    @property
    def because(self) -> str:
        """The reason in brackets, or nothing."""
        return f" ({self.reason})" if self.reason else ""


def choose_native(config: Config, total_steps: int, image_shape: tuple[int, ...]) -> Native:
    """Decides on native kernels; the same configuration, data and machine decide the same.

    So a run that is resumed goes on with what it began with. Whether the kernels have been built
    before plays no part.

    Args:
      config: resolved configuration.
      total_steps: steps of the training.
      image_shape: `(H, W, C)` of the images that the network sees.

    Returns:
      The decision. Native kernels are built here if they are to be used and are not there yet.
    """
    pixels = total_steps * config.train.batch_size * math.prod(image_shape[:2])
    if config.engine.native == "off" or jax.default_backend() != "cpu":
        return Native(False)
    if config.engine.native == "auto" and pixels < PAYS_FROM_PIXELS:
        return Native(False)
    if config.model.dtype != "float32":
        return Native(False, f"they compute in float32, not in {config.model.dtype}")
    built = load()
    return Native(built.path is not None, built.reason)
