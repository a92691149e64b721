"""Decides whether a run trains on native kernels (`ltjax.kernels`)."""

import math
from pathlib import Path
from typing import NamedTuple

import jax

from ltjax.config import Config
from ltjax.errors import InputError
from ltjax.kernels.build import load
from ltjax.models import TAKE_FEATURES
from ltjax.training.stored import read_json

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


def began_native(checkpoints: Path) -> bool | None:
    """Whether the run of some checkpoints has trained on native kernels.

    Args:
      checkpoints: the folder; it need not exist.

    Returns:
      What the newest checkpoint that can be read says; None where there is none. Checkpoints of
      earlier versions say nothing, and were trained without.
    """
    found = checkpoints.iterdir() if checkpoints.is_dir() else ()
    for step in sorted((int(path.name) for path in found if path.name.isdigit()), reverse=True):
        try:
            meta = read_json(checkpoints / str(step) / "meta" / "metadata")
        except InputError:
            continue
        if isinstance(meta, dict):
            return bool(meta.get("native", False))
    return None


def choose_native(
    config: Config, total_steps: int, image_shape: tuple[int, ...], *, began: bool | None = None
) -> Native:
    """Decides on native kernels; the same configuration, data and machine decide the same.

    Whether the kernels have been built before plays no part.

    Args:
      config: resolved configuration.
      total_steps: steps of the training.
      image_shape: `(H, W, C)` of the images that the network sees.
      began: whether the run that is resumed has used them so far, which "auto" keeps to; None for
        a new run.

    Returns:
      The decision. Native kernels are built here if they are to be used and are not there yet.
    """
    pixels = total_steps * config.train.batch_size * math.prod(image_shape[:2])
    convolves = config.model.name not in TAKE_FEATURES
    if config.engine.native == "off" or jax.default_backend() != "cpu" or not convolves:
        return Native(False)
    pays = pixels >= PAYS_FROM_PIXELS if began is None else began
    if config.engine.native == "auto" and not pays:
        return Native(False)
    built = load()
    if built.path is not None and config.model.dtype != "float32" and not built.tiles:
        return Native(False, f"this CPU has no instructions for them in {config.model.dtype} (AMX)")
    return Native(built.path is not None, built.reason)
