"""Plan + source -> batches. The images stay in device memory; a step receives indices."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.data.samplers import BatchPlan
from ltjax.data.sources import ArraySource


class Batch(NamedTuple):
    """What a step receives, leading axis B (or devices x B/devices).

    Attributes:
      index: int32 `[B]`, positions in the resident images.
      label: int32 `[B]`.
      slot: int32 `[B]`, place in the global batch; randomness is a function of it.
      embedded: bool `[B]`, True for slots embedded by BET.
      mask: bool `[B]`, False for padding.
    """

    index: np.ndarray
    label: np.ndarray
    slot: np.ndarray
    embedded: np.ndarray
    mask: np.ndarray


def train_batch(plan: BatchPlan, labels: np.ndarray, step: int) -> Batch:
    """The training batch of a step, a function of (plan, step) alone."""
    index = plan[step]
    return Batch(
        index=index.astype(np.int32),
        label=labels[index].astype(np.int32),
        slot=np.arange(len(index), dtype=np.int32),
        embedded=plan.flags(step),
        mask=np.ones(len(index), bool),
    )


def eval_batches(labels: np.ndarray, batch_size: int) -> Iterator[Batch]:
    """Every image exactly once, in order; the last batch is padded and masked."""
    for start in range(0, len(labels), batch_size):
        index = np.arange(start, start + batch_size)
        mask = index < len(labels)
        index = np.where(mask, index, 0)
        yield Batch(
            index=index.astype(np.int32),
            label=labels[index].astype(np.int32),
            slot=np.arange(batch_size, dtype=np.int32),
            embedded=np.zeros(batch_size, bool),
            mask=mask,
        )


def gather(images: jax.Array, batch: Batch) -> jax.Array:
    """The batch's images, uint8 `[B, H, W, C]`, from the resident ones `[N, H, W, C]`."""
    return jnp.take(images, batch.index, axis=0, mode="clip")


def pixel_statistics(source: ArraySource) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel, float32 `[C]`, in units of 0 ... 255."""
    pixels = source.images.reshape(-1, source.images.shape[-1])
    histogram = np.stack([np.bincount(channel, minlength=256) for channel in pixels.T])
    level, total = np.arange(256.0), len(pixels)
    mean = histogram @ level / total
    variance = (histogram * (level[None, :] - mean[:, None]) ** 2).sum(axis=1) / total
    return mean.astype(np.float32), np.sqrt(np.maximum(variance, 1e-6)).astype(np.float32)
