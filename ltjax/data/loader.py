"""Batches for the step: indices of images in device memory, or images decoded on the host."""

from collections.abc import Iterator
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ltjax.augment.host import HostAugment
from ltjax.data.rows import FeatureSource
from ltjax.data.sources import Source
from ltjax.data.stream import (
    Batches,
    LoadBatch,
    Stream,
    as_encoded,
    batches_in_order,
    read_ahead,
)
from ltjax.errors import InputError, require
from ltjax.samplers import BatchSampler, PrefetchSampler

RESIDENCIES = ("auto", "resident", "streamed")


class Batch(NamedTuple):
    """What a step receives, leading axis B (or devices x B/devices).

    Attributes:
      indices: int32 `[B]`, positions in the resident images.
      labels: int32 `[B]`.
      slots: int32 `[B]`, place in the global batch; randomness is a function of it.
      embedded: bool `[B]`, True for slots embedded by BET.
      mask: bool `[B]`, False for padding.
      images: uint8 `[B / hosts, H, W, C]`, or features `[B / hosts, D]`, of this host; None where
        they are resident.
      weights: float32 `[B]`, of the examples in the loss; None where each counts 1.
    """

    indices: chex.Array
    labels: chex.Array
    slots: chex.Array
    embedded: chex.Array
    mask: chex.Array
    images: chex.Array | None = None
    weights: chex.Array | None = None


class StreamSettings(NamedTuple):
    """How images are streamed.

    Attributes:
      workers: processes that decode; 0 decodes in threads of this process.
      threads: of this process, or of each worker.
      skip_corrupt: replace a damaged image by another of its class.
      host: number of this host.
      hosts: how many there are.
    """

    workers: int = 0
    threads: int = 2
    skip_corrupt: bool = False
    host: int = 0
    hosts: int = 1


class RowStream:
    """The features of batches by step; nothing is decoded, so that reading ahead gains nothing.

    Args:
      batches: indices of this host's part of every batch.
      source: of the features.

    Attributes:
      damaged: nothing, since the features were checked when the file was opened.
    """

    def __init__(self, batches: Batches, source: FeatureSource):
        self._batches, self._source = batches, source
        self.damaged: dict[str, int] = {}

    def __getitem__(self, step: int) -> np.ndarray:
        """The features of a batch.

        Args:
          step: number of the batch, from 0.

        Returns:
          float16 or float32 `[B, D]`.
        """
        return self._source.rows(self._batches[step])

    def close(self) -> None:
        """Has nothing to end."""


class TrainLoader:
    """The training batches of one seed, by step.

    Each epoch of the sampler is drawn once, while the one before it trains; the threads of a stream
    read the same. Worker processes share no memory with this one, so each draws for itself.

    Args:
      source: training images; if they are in device memory, batches hold only their indices.
      sampler: of the batches, over all hosts.
      epochs: of the whole run.
      seed: of the augmentation on the host.
      augment: on the host, of streamed images.
      settings: of the stream; None for images in device memory.
    """

    def __init__(
        self,
        source: Source,
        sampler: BatchSampler,
        epochs: int,
        *,
        seed: int = 0,
        augment: HostAugment | None = None,
        settings: StreamSettings | None = None,
    ):
        self._labels = source.labels
        self._stream = None
        if settings is None:
            self._sampler = PrefetchSampler(sampler, epochs)
            return
        s = settings
        self._sampler = PrefetchSampler(sampler, epochs, lag=read_ahead(s.threads))
        drawn = sampler if s.workers else self._sampler
        self._stream = _stream(
            drawn.shard(s.host, s.hosts).schedule(epochs), source, s, augment=augment, seed=seed
        )

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step.

        Args:
          step: of the whole run, from 0; cheap if asked for in order.

        Returns:
          The batch; `images` is None where the images are in device memory.

        Raises:
          InputError: a streamed image is damaged and may not, or cannot, be replaced.
        """
        batch = train_batch(self._sampler, self._labels, step)
        return batch if self._stream is None else batch._replace(images=self._stream[step])

    @property
    def damaged(self) -> dict[str, int]:
        """How often each damaged image was replaced."""
        return {} if self._stream is None else self._stream.damaged

    def close(self) -> None:
        """Ends threads and processes."""
        if self._stream is not None:
            self._stream.close()
        self._sampler.close()


def train_batch(sampler: BatchSampler, labels: np.ndarray, step: int) -> Batch:
    """The training batch of a step, a function of (sampler, step) alone.

    Args:
      sampler: of the batches.
      labels: int `[N]`, of the training images.
      step: of the whole run, from 0.

    Returns:
      The batch, without images.
    """
    indices = sampler[step]
    return _batch(indices, labels, sampler.flags(step), np.ones(len(indices), bool))


def eval_batches(
    labels: np.ndarray,
    batch_size: int,
    source: Source | None = None,
    settings: StreamSettings | None = None,
) -> Iterator[Batch]:
    """Every image exactly once, in order; the last batch is padded and masked.

    Args:
      labels: int `[N]`.
      batch_size: images per batch, over all hosts.
      source: stream these images; None if they are in device memory.
      settings: of the stream.

    Yields:
      Batches of all images; their `images` are those of this host.
    """
    indices, mask = batches_in_order(len(labels), batch_size)
    stream = None
    if source is not None:
        s = settings or StreamSettings()
        mine = np.split(indices, s.hosts, axis=1)[s.host]
        stream = _stream(mine, source, s)
    regular = np.zeros(batch_size, bool)
    try:
        for step in range(len(indices)):
            batch = _batch(indices[step], labels, regular, mask[step])
            yield batch if stream is None else batch._replace(images=stream[step])
    finally:
        if stream is not None:
            stream.close()


def _stream(
    batches: Batches,
    source: Source,
    settings: StreamSettings,
    *,
    augment: HostAugment | None = None,
    seed: int = 0,
) -> Stream | RowStream:
    """This host's part of batches, read while the devices work."""
    if isinstance(source, FeatureSource):
        return RowStream(batches, source)
    s = settings
    load = LoadBatch(as_encoded(source), augment, seed, s.skip_corrupt, s.host, s.hosts)
    return Stream(batches, load, workers=s.workers, threads=s.threads)


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
    """The images of a batch: streamed ones, or taken from the resident ones.

    Args:
      images: uint8 `[N, H, W, C]`, or features `[N, D]`, in device memory; None if the batch holds
        its own.
      batch: of B images.

    Returns:
      `[B, ...]`, the same dtype.
    """
    if batch.images is not None:
        return jnp.asarray(batch.images)
    assert images is not None
    return jnp.take(images, batch.indices, axis=0, mode="clip")


def is_resident(residency: str, source: Source, images: int, megabytes: int, on_host: bool) -> bool:
    """Decides whether images go to device memory as a whole.

    Args:
      residency: one of `RESIDENCIES`; "auto" means that they do if they fit and are not changed
        on the host.
      source: one of the sources.
      images: number of images of all sources.
      megabytes: device memory that they may take, in MiB.
      on_host: whether training crops or jitters images on the host.

    Returns:
      Whether they do.

    Raises:
      InputError: resident images that are to be changed on the host, or an unknown residency.
    """
    require(residency in RESIDENCIES, "data.residency", residency, ", ".join(RESIDENCIES))
    if residency == "resident" and on_host:
        raise InputError(
            "data.residency = resident does not go with augment.crop_area < 1 or "
            "augment.colour_jitter > 0, which are done while images are read; use streamed"
        )
    if residency != "auto":
        return residency == "resident"
    each = int(np.prod(source.image_shape)) * source.dtype.itemsize
    return not on_host and images * each <= megabytes * 2**20
