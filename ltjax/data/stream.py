"""Batches decoded on the host while the device works; grain reads them ahead.

A batch is a function of its position alone, so it is the same for any number of workers, and a
resumed stream goes on as if it had never stopped. Nothing here knows of JAX: worker processes
load this module and little else.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ltjax.augment.host import HostAugment, center_crop, color_jitter, random_resized_crop
from ltjax.data.decode import DecodeError
from ltjax.data.sources import ArraySource, EncodedSource, Source
from ltjax.errors import InputError
from ltjax.samplers.base import BatchPlan


class Loaded(NamedTuple):
    """What a worker returns for a batch.

    Attributes:
      images: uint8 `[B, H, W, C]`.
      damaged: what was wrong with images that others took the place of, or that had none.
    """

    images: np.ndarray
    damaged: tuple[str, ...]


class Rows(NamedTuple):
    """The images of one batch, or of a part of it.

    Attributes:
      first: place of the first row among all rows of the schedule; randomness follows it.
      indices: of the images, int64 `[B]`.
    """

    first: int
    indices: np.ndarray


@dataclass(frozen=True)
class PlanRows:
    """One host's rows of every step of a plan, as a sequence."""

    plan: BatchPlan
    steps: int
    host: int = 0
    hosts: int = 1

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Rows:
        size = self.plan.batch_size // self.hosts
        start = self.host * size
        rows = self.plan[int(step)][start : start + size]
        return Rows(int(step) * self.plan.batch_size + start, rows)


@dataclass(frozen=True)
class OrderedRows:
    """One host's rows of the batches of an evaluation, in order; the padding is image 0."""

    images: int
    batch_size: int
    host: int = 0
    hosts: int = 1

    def __len__(self) -> int:
        return -(-self.images // self.batch_size)

    def __getitem__(self, number: int) -> Rows:
        size = self.batch_size // self.hosts
        first = int(number) * self.batch_size + self.host * size
        rows = np.arange(first, first + size)
        return Rows(first, np.where(rows < self.images, rows, 0))


@dataclass(frozen=True)
class ChosenRows:
    """Some images, one a batch."""

    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, number: int) -> Rows:
        return Rows(int(number), self.indices[int(number)][None])


@dataclass(frozen=True)
class LoadRows:
    """Decodes the images of some rows; called in threads or worker processes.

    Attributes:
      source: of the images.
      augment: of training images; None takes the view of evaluation.
      seed: of the augmentation.
      skip_corrupt: put another image of its class in the place of a damaged one.
    """

    source: EncodedSource
    augment: HostAugment | None
    seed: int
    skip_corrupt: bool

    def __call__(self, rows: Rows) -> Loaded:
        """Images `[B, H, W, C]` of the rows; a damaged one that nothing replaces is black."""
        out = np.zeros((len(rows.indices), *self.source.image_shape), np.uint8)
        damaged: list[str] = []
        for i, index in enumerate(rows.indices):
            for candidate in self._candidates(int(index)):
                try:
                    out[i] = self._image(candidate, rows.first + i)
                    break
                except DecodeError as e:
                    damaged.append(str(e))
        return Loaded(out, tuple(damaged))

    def _image(self, index: int, place: int) -> np.ndarray:
        size = self.source.size
        if self.augment is None:
            image = self.source.view(index)
        else:
            rng = np.random.Generator(np.random.Philox(key=[self.seed, place]))
            # A crop takes at least a tenth or so of the area: keep enough for it to shrink.
            least = round(size / np.sqrt(max(self.augment.area[0], 0.25)))
            image = self.source.image(index, at_least=least)
            if self.augment.area != (1.0, 1.0):
                image = random_resized_crop(image, rng, size, self.augment)
            else:
                image = center_crop(image, size)
            image = color_jitter(image, rng, self.augment.jitter)
        channels = self.source.channels
        if image.shape[-1] != channels:  # arrays may be grey among colours
            image = np.repeat(image[..., :1], channels, axis=-1)
        return image

    def _candidates(self, index: int) -> Iterator[int]:
        yield index
        if self.skip_corrupt:
            members = np.flatnonzero(self.source.labels == self.source.labels[index])
            place = int(np.searchsorted(members, index))
            yield from np.roll(members, -place)[1:].tolist()


class Stream:
    """Loaded batches by position, read ahead.

    Args:
      rows: `PlanRows`, `OrderedRows` or `ChosenRows`.
      load: of the images.
      workers: processes; 0 decodes in threads of this one, which is as fast where OpenCV does
        the work.
      threads: of this process or of each worker.
    """

    def __init__(
        self,
        rows: PlanRows | OrderedRows | ChosenRows,
        load: LoadRows,
        *,
        workers: int = 0,
        threads: int = 2,
    ):
        self._rows, self._load = rows, load
        self._workers, self._threads = workers, threads
        self._next: int | None = None
        self._batches: Iterator[Loaded] | None = None
        self.damaged: dict[str, int] = {}

    def __getitem__(self, position: int) -> np.ndarray:
        """Images of a batch, uint8 `[B, H, W, C]`; cheap if asked for in order.

        Raises:
          InputError: an image is damaged and may not, or cannot, be replaced.
        """
        if self._batches is None or self._next != position:
            self._batches = self._open(position)
        self._next = position + 1
        loaded = next(self._batches)
        if loaded.damaged and not self._load.skip_corrupt:
            raise InputError(
                f"{loaded.damaged[0]}; repair or remove it, or set data.skip_corrupt = True to "
                "take another image of its class"
            )
        for reason in loaded.damaged:
            self.damaged[reason] = self.damaged.get(reason, 0) + 1
        return loaded.images

    def _open(self, position: int) -> Iterator[Loaded]:
        import grain
        from absl import flags

        dataset = grain.MapDataset.source(self._rows).map(self._load)
        options = grain.ReadOptions(
            num_threads=self._threads, prefetch_buffer_size=2 * self._threads
        )
        if not self._workers:
            return iter(dataset[position:].to_iter_dataset(options))
        if not flags.FLAGS.is_parsed():  # grain's workers ask for it; a notebook has none
            flags.FLAGS.mark_as_parsed()
        processes = grain.MultiprocessingOptions(
            num_workers=self._workers, per_worker_buffer_size=2
        )
        return iter(dataset[position:].to_iter_dataset(options).mp_prefetch(processes))

    def close(self) -> None:
        """Ends threads and worker processes."""
        batches, self._batches, self._next = self._batches, None, None
        end: Callable[[], None] | None = getattr(batches, "close", None)
        if end is not None:
            end()


def decode_all(
    source: EncodedSource, *, skip_corrupt: bool, threads: int
) -> tuple[ArraySource, dict[str, int]]:
    """Every image as evaluation sees it, in memory; and how often each damaged one was replaced.

    Raises:
      InputError: an image is damaged and may not, or cannot, be replaced.
    """
    load = LoadRows(source, None, 0, skip_corrupt)
    stream = Stream(OrderedRows(len(source), 256), load, threads=threads)
    parts = [stream[i] for i in range(-(-len(source) // 256))]
    stream.close()
    images = np.concatenate(parts)[: len(source)]
    whole = ArraySource(images, source.labels, source.class_names, source.order)
    return whole, stream.damaged


def as_encoded(source: Source) -> EncodedSource:
    """The source behind a reader, whatever it is."""
    return source.encoded() if isinstance(source, ArraySource) else source
