"""Plan + source -> batches. The images stay in device memory; a step receives indices."""

from collections.abc import Iterator
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ltjax.data.plan import BatchPlan
from ltjax.data.sources import ArraySource


class Batch(NamedTuple):
    """What a step receives, leading axis B (or devices x B/devices).

    Attributes:
      indices: int32 `[B]`, positions in the resident images.
      labels: int32 `[B]`.
      slots: int32 `[B]`, place in the global batch; randomness is a function of it.
      embedded: bool `[B]`, True for slots embedded by BET.
      mask: bool `[B]`, False for padding.
    """

    indices: chex.Array
    labels: chex.Array
    slots: chex.Array
    embedded: chex.Array
    mask: chex.Array


def train_batch(plan: BatchPlan, labels: np.ndarray, step: int) -> Batch:
    """The training batch of a step, a function of (plan, step) alone."""
    indices = plan[step]
    return _batch(indices, labels, plan.flags(step), np.ones(len(indices), bool))


def eval_batches(labels: np.ndarray, batch_size: int) -> Iterator[Batch]:
    """Every image exactly once, in order; the last batch is padded and masked."""
    for start in range(0, len(labels), batch_size):
        indices = np.arange(start, start + batch_size)
        mask = indices < len(labels)
        yield _batch(np.where(mask, indices, 0), labels, np.zeros(batch_size, bool), mask)


def _batch(
    indices: np.ndarray, labels: np.ndarray, embedded: np.ndarray, mask: np.ndarray
) -> Batch:
    return Batch(
        indices=indices.astype(np.int32),
        labels=labels[indices].astype(np.int32),
        slots=np.arange(len(indices), dtype=np.int32),
        embedded=embedded,
        mask=mask,
    )


def gather(images: jax.Array, batch: Batch) -> jax.Array:
    """The batch's images, uint8 `[B, H, W, C]`, from the resident ones `[N, H, W, C]`."""
    return jnp.take(images, batch.indices, axis=0, mode="clip")


def pixel_statistics(source: ArraySource) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel, float32 `[C]`, in units of 0 ... 255."""
    pixels = source.images.reshape(-1, source.images.shape[-1])
    histogram = np.stack([np.bincount(channel, minlength=256) for channel in pixels.T])
    level, total = np.arange(256.0), len(pixels)
    mean = histogram @ level / total
    variance = (histogram * (level[None, :] - mean[:, None]) ** 2).sum(axis=1) / total
    return mean.astype(np.float32), np.sqrt(np.maximum(variance, 1e-6)).astype(np.float32)
