"""Features of a finished run's backbone."""

import jax
import numpy as np

from ltjax.data.sources import ArraySource, Source
from ltjax.errors import InputError
from ltjax.serving.load import Trained, normalized

BLOCK = 256


def images_of(source: Source) -> np.ndarray:
    """The images `[N, H, W, C]` of a source that holds them in memory.

    Raises:
      InputError: it streams them, or holds features.
    """
    if not isinstance(source, ArraySource):
        raise InputError("the images of this run are streamed; set config.data.residency=resident")
    return source.images


def features(trained: Trained, images: np.ndarray) -> np.ndarray:
    """What the whitening gets in evaluation mode, `[N, D]`, of images `[N, H, W, C]`."""

    @jax.jit
    def one(block):
        return trained.model.apply(trained.variables, normalized(trained, block), train=False)

    starts = range(0, len(images), BLOCK)
    blocks = [images[(start + np.arange(BLOCK)) % len(images)] for start in starts]
    found = [np.asarray(one(block).features) for block in blocks]
    return np.concatenate(found)[: len(images)]
