"""Collects the outputs of an evaluation step on a whole source, each image exactly once."""

from collections.abc import Callable, Iterable

import jax
import numpy as np

from ltjax.data.loader import Batch
from ltjax.models import Outputs


def collect_outputs(eval_step: Callable[[Batch], Outputs], batches: Iterable[Batch]) -> Outputs:
    """Outputs of every image, in order, as NumPy arrays.

    Args:
      eval_step: maps a batch of images to `Outputs` with as many rows.
      batches: as `eval_batches` gives them; padding is dropped here.

    Returns:
      `Outputs` with `N` rows.
    """
    parts = []
    for batch in batches:
        out = jax.device_get(eval_step(batch))
        parts.append([np.asarray(x)[batch.mask] for x in out])
    return Outputs(*(np.concatenate(column) for column in zip(*parts, strict=True)))
