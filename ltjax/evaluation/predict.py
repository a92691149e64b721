"""Runs a mapped evaluation step over a whole source, each image exactly once."""

from collections.abc import Callable

import jax
import numpy as np

from ltjax.data.loader import Batch, eval_batches
from ltjax.models import Outputs


def predict(eval_step: Callable[[Batch], Outputs], labels: np.ndarray, batch_size: int) -> Outputs:
    """Outputs of every image, in order, as NumPy arrays.

    Args:
      eval_step: a batch of `batch_size` images to `Outputs` with as many rows.
      labels: int `[N]`.
      batch_size: images per call; the last batch is padded, its padding dropped here.

    Returns:
      `Outputs` with `N` rows.
    """
    parts = []
    for batch in eval_batches(labels, batch_size):
        out = jax.device_get(eval_step(batch))
        parts.append([np.asarray(x)[batch.mask] for x in out])
    return Outputs(*(np.concatenate(column) for column in zip(*parts, strict=True)))
