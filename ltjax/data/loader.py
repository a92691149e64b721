"""Plan + source -> batches: indices of images in device memory, or images decoded on the host."""

from collections.abc import Iterator
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ltjax.augment.host import HostAugment
from ltjax.data.sources import ArraySource, EncodedSource, Source
from ltjax.data.stream import ChosenRows, LoadRows, OrderedRows, PlanRows, Stream, as_encoded
from ltjax.errors import InputError, require
from ltjax.samplers.base import BatchPlan
from ltjax.samplers.prefetch import Ahead

RESIDENCIES = ("auto", "resident", "streamed")


class Batch(NamedTuple):
    """What a step receives, leading axis B (or devices x B/devices).

    Attributes:
      indices: int32 `[B]`, positions in the resident images.
      labels: int32 `[B]`.
      slots: int32 `[B]`, place in the global batch; randomness is a function of it.
      embedded: bool `[B]`, True for slots embedded by BET.
      mask: bool `[B]`, False for padding.
      images: uint8 `[B / hosts, H, W, C]`, this host's; None where images are resident.
    """

    indices: chex.Array
    labels: chex.Array
    slots: chex.Array
    embedded: chex.Array
    mask: chex.Array
    images: chex.Array | None = None


class StreamSettings(NamedTuple):
    """How images are streamed: processes, threads, damaged images, host and number of hosts."""

    workers: int = 0
    threads: int = 2
    skip_corrupt: bool = False
    host: int = 0
    hosts: int = 1


class TrainLoader:
    """The training batches of one seed, by step.

    Args:
      source: training images; in memory, batches hold indices alone.
      plan: of the batches.
      epochs: of the schedule.
      seed: of the host's augmentation.
      augment: on the host, of streamed images.
      settings: of the stream; None for images in device memory.
    """

    def __init__(
        self,
        source: Source,
        plan: BatchPlan,
        epochs: int,
        *,
        seed: int = 0,
        augment: HostAugment | None = None,
        settings: StreamSettings | None = None,
    ):
        self._labels = source.labels
        # The plan's next epoch is prepared while this one trains.
        self._plan = Ahead(plan, epochs)
        self._stream = None
        if settings is not None:
            load = LoadRows(as_encoded(source), augment, seed, settings.skip_corrupt)
            steps = epochs * plan.steps_per_epoch
            rows = PlanRows(plan, steps, settings.host, settings.hosts)
            self._stream = Stream(rows, load, workers=settings.workers, threads=settings.threads)

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step."""
        batch = train_batch(self._plan, self._labels, step)
        return batch if self._stream is None else batch._replace(images=self._stream[step])

    @property
    def damaged(self) -> dict[str, int]:
        """How often each damaged image was replaced."""
        return {} if self._stream is None else self._stream.damaged

    def close(self) -> None:
        """Ends threads and processes."""
        self._plan.close()
        if self._stream is not None:
            self._stream.close()


def train_batch(plan: BatchPlan, labels: np.ndarray, step: int) -> Batch:
    """The training batch of a step, a function of (plan, step) alone."""
    indices = plan[step]
    return _batch(indices, labels, plan.flags(step), np.ones(len(indices), bool))


def eval_batches(
    labels: np.ndarray,
    batch_size: int,
    source: EncodedSource | None = None,
    settings: StreamSettings | None = None,
) -> Iterator[Batch]:
    """Every image exactly once, in order; the last batch is padded and masked.

    Args:
      labels: int `[N]`.
      batch_size: images a batch.
      source: stream these images; None where they are in device memory.
      settings: of the stream.
    """
    stream = None
    if source is not None:
        s = settings or StreamSettings()
        rows = OrderedRows(len(labels), batch_size, s.host, s.hosts)
        load = LoadRows(source, None, 0, s.skip_corrupt)
        stream = Stream(rows, load, workers=s.workers, threads=s.threads)
    try:
        for number, start in enumerate(range(0, len(labels), batch_size)):
            indices = np.arange(start, start + batch_size)
            mask = indices < len(labels)
            batch = _batch(np.where(mask, indices, 0), labels, np.zeros(batch_size, bool), mask)
            yield batch if stream is None else batch._replace(images=stream[number])
    finally:
        if stream is not None:
            stream.close()


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


def gather(images: jax.Array | None, batch: Batch) -> jax.Array:
    """The batch's images, uint8 `[B, H, W, C]`: its own, or of the resident ones `[N, H, W, C]`."""
    if batch.images is not None:
        return jnp.asarray(batch.images)
    assert images is not None
    return jnp.take(images, batch.indices, axis=0, mode="clip")


def is_resident(residency: str, source: Source, images: int, megabytes: int, on_host: bool) -> bool:
    """Whether images go to device memory as a whole.

    Args:
      residency: one of `RESIDENCIES`; "auto" says yes to images that fit and are not changed
        on the host.
      source: one of the sources.
      images: of all sources.
      megabytes: that they may take, 2^20 bytes each.
      on_host: whether training crops or jitters images on the host.

    Raises:
      InputError: resident images that are to be changed on the host.
    """
    require(residency in RESIDENCIES, "data.residency", residency, ", ".join(RESIDENCIES))
    if residency == "resident" and on_host:
        raise InputError(
            "data.residency = resident does not go with augment.crop_area < 1 or "
            "augment.colour_jitter > 0, which are done while images are read; use streamed"
        )
    if residency != "auto":
        return residency == "resident"
    return not on_host and images * int(np.prod(source.image_shape)) <= megabytes * 2**20


def pixel_statistics(source: Source, *, sample: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel, float32 `[C]`, in units of 0 ... 255.

    Args:
      source: of images in memory all are taken, of others as evaluation sees them `sample`,
        evenly spaced; those that cannot be read are left out.
      sample: how many.
    """
    if isinstance(source, ArraySource):
        images = source.images
    else:
        chosen = np.unique(np.linspace(0, len(source) - 1, min(sample, len(source))).astype(int))
        load = LoadRows(source, None, 0, skip_corrupt=True)
        stream = Stream(ChosenRows(chosen), load)
        images = np.concatenate([stream[i] for i in range(len(chosen))])
        stream.close()
    histogram = np.zeros((images.shape[-1], 256))
    for part in np.array_split(images.reshape(-1, images.shape[-1]), max(len(images) // 4096, 1)):
        histogram += [np.bincount(channel, minlength=256) for channel in part.T]
    level, total = np.arange(256.0), histogram[0].sum()
    mean = histogram @ level / total
    variance = (histogram * (level[None, :] - mean[:, None]) ** 2).sum(axis=1) / total
    return mean.astype(np.float32), np.sqrt(np.maximum(variance, 1e-6)).astype(np.float32)
