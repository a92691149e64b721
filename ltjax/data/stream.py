"""Batches of images that are decoded on the host while the device works; grain reads them ahead.

A batch is a function of its step alone, so it is the same for any number of threads, worker
processes and hosts, and a resumed stream goes on as if it had never stopped. This module does not
import JAX: worker processes load it, and little else.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from ltjax.augment.host import HostAugment, center_crop, color_jitter, random_resized_crop
from ltjax.data.decode import DecodeError
from ltjax.data.sources import ArraySource, EncodedSource
from ltjax.errors import InputError

# Share of the images of a part that may be damaged where they are replaced by others.
MOST_DAMAGED = 0.5
# How often a stream starts its worker processes again after one was killed.
MOST_LOST = 3
_LOST_WORKER = "Worker process was terminated unexpectedly"  # grain's words; it has no type for it


class Batches(Protocol):
    """A finite sequence of batches: a sampler's schedule, or the rows of an array."""

    def __len__(self) -> int: ...

    def __getitem__(self, step: int, /) -> np.ndarray:
        """The images of a batch.

        Args:
          step: number of the batch, from 0.

        Returns:
          Their indices, int64 `[B]`.
        """
        ...


class Loaded(NamedTuple):
    """The images of a batch.

    Attributes:
      images: uint8 `[B, H, W, C]`.
      damaged: for each damaged image, its name and what is wrong with it.
      without: class of an image that no other of its class could replace, all being damaged; None
        where there is none.
    """

    images: np.ndarray
    damaged: tuple[str, ...]
    without: int | None = None


def batches_in_order(images: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Every image once, in order.

    Args:
      images: how many there are.
      batch_size: images per batch.

    Returns:
      Image indices, int64 `[steps, batch_size]`, and a mask of the same shape, False for the
      padding of the last batch, which is image 0.

    >>> indices, mask = batches_in_order(3, 2)
    >>> indices.tolist(), mask.tolist()
    ([[0, 1], [2, 0]], [[True, True], [True, False]])
    """
    steps = -(-images // batch_size)
    places = np.arange(steps * batch_size).reshape(steps, batch_size)
    mask = places < images
    return np.where(mask, places, 0), mask


@dataclass(frozen=True)
class LoadBatch:
    """Decodes the images of a batch; called in threads or worker processes.

    Attributes:
      source: of the images.
      augment: of training images; None gives the view of evaluation.
      seed: of the augmentation.
      skip_corrupt: replace a damaged image by another of its class.
      host: number of this host, whose part of each batch is loaded.
      hosts: how many there are.
    """

    source: EncodedSource
    augment: HostAugment | None
    seed: int
    skip_corrupt: bool
    host: int = 0
    hosts: int = 1

    def __call__(self, step: int, indices: np.ndarray) -> Loaded:
        """Loads this host's part of a batch.

        Args:
          step: of the whole run.
          indices: int `[B]`, images of this host's part.

        Returns:
          The images, as far as they can be read.
        """
        images = np.zeros((len(indices), *self.source.image_shape), np.uint8)
        damaged: list[str] = []
        without: int | None = None
        # The augmentation is a function of the seed and the place among all images of the run.
        first = (step * self.hosts + self.host) * len(indices)
        for i, index in enumerate(indices.tolist()):
            for candidate in self._candidates(index):
                try:
                    images[i] = self._image(candidate, first + i)
                    break
                except DecodeError as e:
                    damaged.append(str(e))
            else:
                without = int(self.source.labels[index])
                break  # the run stops here
        return Loaded(images, tuple(damaged), without)

    def _image(self, index: int, place: int) -> np.ndarray:
        size = self.source.size
        if self.augment is None:
            image = self.source.view(index)
        else:
            rng = np.random.Generator(np.random.Philox(key=[self.seed, place]))
            # Large enough for all but the smallest crops to shrink rather than grow.
            least = round(size / np.sqrt(max(self.augment.area[0], 0.25)))
            image = self.source.image(index, at_least=least)
            if self.augment.area != (1.0, 1.0):
                image = random_resized_crop(image, rng, size, self.augment)
            else:
                image = center_crop(image, size)
            image = color_jitter(image, rng, self.augment.jitter)
        channels = self.source.channels
        if image.shape[-1] != channels:  # a gray image among color images
            image = np.repeat(image[..., :1], channels, axis=-1)
        return image

    def _candidates(self, index: int) -> Iterator[int]:
        yield index
        if self.skip_corrupt:
            members = np.flatnonzero(self.source.labels == self.source.labels[index])
            place = int(np.searchsorted(members, index))
            yield from np.roll(members, -place)[1:].tolist()


def read_ahead(threads: int) -> int:
    """How many batches are loaded ahead of the one that is asked for.

    Args:
      threads: that load.

    Returns:
      The number of batches.
    """
    return 2 * threads


class Stream:
    """The images of batches by step, loaded ahead.

    Args:
      batches: image indices of this host's part of every batch.
      load: loads the images.
      workers: processes; 0 decodes in threads of this process, which is as fast as long as OpenCV
        does the work.
      threads: of this process, or of each worker.

    Attributes:
      damaged: how often each damaged image was replaced.

    Raises:
      InputError: when a batch is asked for, an image of which is damaged and may not be replaced,
        or cannot, since all images of its class are damaged; or more than half of the images are.
    """

    def __init__(self, batches: Batches, load: LoadBatch, *, workers: int = 0, threads: int = 2):
        self._batches, self._load = batches, load
        self._workers, self._threads = workers, threads
        self._next: int | None = None
        self._loaded: Iterator[Loaded] | None = None
        self._lost = 0
        self.damaged: dict[str, int] = {}

    def __getitem__(self, step: int) -> np.ndarray:
        """The images of a batch; cheap if asked for in order.

        Args:
          step: number of the batch, from 0.

        Returns:
          uint8 `[B, H, W, C]`.

        Raises:
          InputError: an image is damaged and may not, or cannot, be replaced; or more than half of
            the images are damaged.
        """
        if self._loaded is None or self._next != step:
            self._loaded = self._open(step)
        self._next = step + 1
        loaded = self._take(step)
        if loaded.damaged and not self._load.skip_corrupt:
            raise InputError(
                f"{loaded.damaged[0]}; repair or remove it, or set data.skip_corrupt = True to "
                "take another image of its class"
            )
        for reason in loaded.damaged:
            self.damaged[reason] = self.damaged.get(reason, 0) + 1
        self._check_damage(loaded)
        return loaded.images

    def _take(self, step: int) -> Loaded:
        """The next batch; where a worker process was killed, others load it again."""
        assert self._loaded is not None
        try:
            return next(self._loaded)
        except RuntimeError as e:
            if _LOST_WORKER not in str(e):
                raise
            self.close()
            self._lost += 1
            if self._lost > MOST_LOST:
                raise InputError(
                    f"a worker process was killed {self._lost} times, perhaps for want of memory; "
                    f"lower data.workers = {self._workers} or data.threads = {self._threads}, or "
                    "use data.workers = 0"
                ) from e
        self._loaded, self._next = self._open(step), step + 1
        return self._take(step)

    def _check_damage(self, loaded: Loaded) -> None:
        source = self._load.source
        if loaded.without is not None:
            name, count = source.class_names[loaded.without], source.class_counts[loaded.without]
            raise InputError(
                f"all {count} images of class {name!r} are damaged, so that none can take their "
                f"place ({loaded.damaged[-1]}); repair them or remove the class"
            )
        if len(self.damaged) > MOST_DAMAGED * len(source):
            raise InputError(
                f"{len(self.damaged)} of {len(source)} images are damaged, more than the half that "
                f"data.skip_corrupt replaces ({next(iter(self.damaged))}); repair or remove them"
            )

    def _open(self, step: int) -> Iterator[Loaded]:
        import grain
        from absl import flags

        dataset = grain.MapDataset.source(self._batches).map_with_index(self._load)[step:]
        options = grain.ReadOptions(
            num_threads=self._threads, prefetch_buffer_size=read_ahead(self._threads)
        )
        if not self._workers:
            return iter(dataset.to_iter_dataset(options))
        if not flags.FLAGS.is_parsed():  # grain's workers ask for it; a notebook has none
            flags.FLAGS.mark_as_parsed()
        processes = grain.MultiprocessingOptions(
            num_workers=self._workers, per_worker_buffer_size=2
        )
        return iter(dataset.to_iter_dataset(options).mp_prefetch(processes))

    def close(self) -> None:
        """Ends threads and worker processes."""
        loaded, self._loaded, self._next = self._loaded, None, None
        end: Callable[[], None] | None = getattr(loaded, "close", None)
        if end is not None:
            end()


def decode_all(
    source: EncodedSource, *, skip_corrupt: bool, threads: int
) -> tuple[ArraySource, dict[str, int]]:
    """Decodes every image as evaluation sees it.

    Args:
      source: of the images.
      skip_corrupt: replace a damaged image by another of its class.
      threads: that decode.

    Returns:
      The images in memory, and how often each damaged image was replaced.

    Raises:
      InputError: an image is damaged and may not, or cannot, be replaced.
    """
    load = LoadBatch(source, None, 0, skip_corrupt)
    batches = np.split(np.arange(len(source)), range(256, len(source), 256))
    stream = Stream(batches, load, threads=threads)
    try:
        images = np.concatenate([stream[step] for step in range(len(batches))])
    finally:
        stream.close()
    return ArraySource(images, source.labels, source.class_names, source.order), stream.damaged


def as_encoded(source: ArraySource | EncodedSource) -> EncodedSource:
    """The source behind a reader of single images, also if its images are in memory.

    Args:
      source: of either kind.

    Returns:
      The source itself if it is encoded; otherwise the same images behind a reader.
    """
    return source.encoded() if isinstance(source, ArraySource) else source
