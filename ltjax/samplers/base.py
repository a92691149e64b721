"""What every sampler is: a sequence of batches, each a function of the seed and the step.

`sampler.epoch(e)` is a whole epoch and `sampler[step]` one batch, the same on every host. A sampler
has no state that would have to be stored: a run resumes from its step.
"""

import abc
import hashlib
from collections.abc import Iterator

import numpy as np

from ltjax.errors import InputError, require, require_integer
from ltjax.samplers.cache import EpochCache
from ltjax.samplers.schedule import BatchSchedule


def frozen(rows: np.ndarray) -> np.ndarray:
    """Makes an array read-only, in place.

    Args:
      rows: any array.

    Returns:
      The same array.

    Source: ours.
    """
    rows.flags.writeable = False
    return rows


class BatchSampler(abc.ABC):
    """An endless sequence of batches of image indices, in epochs of `len(sampler)` steps.

    `sampler[step]` is the batch of any step >= 0, `len(sampler)` the number of steps in an epoch,
    and `for batch in sampler` iterates over the first epoch. Negative steps are refused, since an
    endless sequence has no end to count from. `sampler.schedule(epochs)` is the finite sequence of
    a whole training run.

    Every batch is a function of the sampler's arguments and the step alone. No state needs to be
    stored: a run resumes from its step. The epochs read most recently are cached, and threads can
    share a sampler.

    To write a sampler, derive from this class, call `__init__`, and define `epoch` and
    `__repr__`, which must name every argument; and `class_prior`, if a loss is to ask for it.

    Args:
      batch_size: images per batch, >= 1.
      steps_per_epoch: batches per epoch, >= 1.

    Raises:
      InputError: an argument that is not an integer >= 1.

    Source: ours. The interface is that of `grain`'s data sources,
    https://google-grain.readthedocs.io/en/latest/data_sources/protocol.html

    >>> class InOrder(BatchSampler):
    ...     def __repr__(self):
    ...         return f"InOrder({self.batch_size}, {self.steps_per_epoch})"
    ...
    ...     def epoch(self, epoch):
    ...         images = np.arange(self.steps_per_epoch * self.batch_size)
    ...         return images.reshape(self.steps_per_epoch, self.batch_size)
    >>> sampler = InOrder(batch_size=2, steps_per_epoch=3)
    >>> len(sampler), sampler[1].tolist(), sampler[4].tolist()
    (3, [2, 3], [2, 3])
    >>> [batch.tolist() for batch in sampler]
    [[0, 1], [2, 3], [4, 5]]
    """

    def __init__(self, batch_size: int, steps_per_epoch: int):
        self.batch_size = require_integer("batch_size", batch_size, 1)
        self.steps_per_epoch = require_integer("steps_per_epoch", steps_per_epoch, 1)
        # Two, since threads that read ahead may be in the next epoch while others are in this one.
        self._epochs: EpochCache[np.ndarray] = EpochCache(2)
        self._fingerprint: str | None = None

    @abc.abstractmethod
    def epoch(self, epoch: int) -> np.ndarray:
        """Draws an epoch.

        Args:
          epoch: number of the epoch, >= 0.

        Returns:
          Image indices, int64 `[steps_per_epoch, batch_size]`.

        Raises:
          InputError: `epoch` is negative or not an integer.
        """

    @abc.abstractmethod
    def __repr__(self) -> str: ...

    def __len__(self) -> int:
        """The number of steps in an epoch."""
        return self.steps_per_epoch

    def __getitem__(self, step: int) -> np.ndarray:
        """Image indices of one batch.

        Args:
          step: step of the whole run, >= 0; step `e * len(self)` is the first of epoch `e`.

        Returns:
          int64 `[batch_size]`, read-only.

        Raises:
          InputError: `step` is negative or not an integer.
        """
        step = require_integer("step", step, 0)
        batch: np.ndarray = self.rows(step, step + 1)[0]
        return batch

    def __iter__(self) -> Iterator[np.ndarray]:
        """The batches of the first epoch."""
        return iter(self.schedule(1))

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Image indices of consecutive batches.

        Reading in order draws each epoch once, also from several threads.

        Args:
          start: first step, >= 0.
          stop: step after the last one.

        Returns:
          int64 `[stop - start, batch_size]`, read-only unless it spans several epochs.
        """
        size, parts = self.steps_per_epoch, []
        for epoch in range(start // size, -(-stop // size)):
            drawn = self._drawn(epoch)
            parts.append(drawn[max(start - epoch * size, 0) : stop - epoch * size])
        if not parts:
            return np.zeros((0, self.batch_size), np.int64)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _drawn(self, epoch: int) -> np.ndarray:
        """An epoch, drawn or kept, not writable."""
        return self._epochs.get(epoch, lambda epoch: frozen(self.epoch(epoch)))

    def schedule(self, epochs: int) -> BatchSchedule:
        """The batches of a whole run, as a finite sequence.

        Args:
          epochs: number of epochs, >= 1.

        Returns:
          A sequence of `epochs * len(self)` batches.

        Raises:
          InputError: `epochs` is not an integer >= 1.
        """
        return BatchSchedule(self, epochs)

    def flags(self, step: int) -> np.ndarray:
        """Which slots of a batch BET embeds; by default none.

        Args:
          step: step of the whole run, >= 0.

        Returns:
          bool `[batch_size]`, True for embedded slots.

        Raises:
          InputError: `step` is negative or not an integer.
        """
        require_integer("step", step, 0)
        return np.zeros(self.batch_size, bool)

    @property
    def scheduled(self) -> bool:
        """Whether the class distribution changes from epoch to epoch."""
        return False

    def class_prior(self, *, epoch: int = 0, embedded_weight: float | None = None) -> np.ndarray:
        """The class distribution of the batches, as a loss averages over them.

        It is exact: what the class frequencies of the drawn batches tend to over many epochs. A
        loss that corrects for the class distribution needs this one, not that of the training set.

        Args:
          epoch: number of the epoch, >= 0; only samplers that are `scheduled` depend on it.
          embedded_weight: the weight `w` of `bet_weights`, if the loss has these weights; None
            counts every draw once. Only samplers that embed depend on it.

        Returns:
          float64 `[C]`, of sum 1; 0 for classes without images.

        Raises:
          InputError: the sampler has no labels, or `epoch` is negative or not an integer.
        """
        raise InputError(
            f"{self!r} has no class_prior, since it has no labels; define class_prior in its class"
        )

    def shard(self, index: int, count: int) -> "ShardSampler":
        """The sampler of one host: its contiguous slice of every batch.

        The slices of all hosts, concatenated in order, are the global batch.

        Args:
          index: number of the host, from 0 to `count - 1`.
          count: number of hosts, a divisor of the batch size.

        Returns:
          A sampler with batches of `batch_size / count` images.

        Raises:
          InputError: `count` does not divide the batch size, or `index` is not below it.
        """
        return ShardSampler(self, index, count)

    def fingerprint(self) -> str:
        """Short hash of the arguments and of the image indices of the first epoch.

        It changes with the seed, the labels, and the code that draws.

        Returns:
          16 hexadecimal digits.
        """
        if self._fingerprint is None:
            digest = hashlib.sha256(repr(self).encode())
            digest.update(self.epoch(0).astype("<i8").tobytes())
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint


class ShardSampler(BatchSampler):
    """One host's slice of every batch; made by `sampler.shard(index, count)`.

    The shards of one sampler share the epochs that it caches.

    Args:
      sampler: sampler of the global batches.
      index: number of the host, from 0 to `count - 1`.
      count: number of hosts, a divisor of the batch size.

    Raises:
      InputError: `count` does not divide the batch size, or `index` is not below it.

    Source: ours.
    """

    def __init__(self, sampler: BatchSampler, index: int, count: int):
        count = require_integer("shard count", count, 1)
        divides = sampler.batch_size % count == 0
        require(divides, "shard count", count, f"a divisor of the batch size {sampler.batch_size}")
        index = require_integer("shard index", index, 0)
        require(index < count, "shard index", index, f"an integer from 0 to {count - 1}")
        super().__init__(sampler.batch_size // count, sampler.steps_per_epoch)
        self.sampler, self.index, self.count = sampler, index, count
        self._slice = slice(index * self.batch_size, (index + 1) * self.batch_size)

    def __repr__(self) -> str:
        return f"{self.sampler!r}.shard({self.index}, {self.count})"

    def epoch(self, epoch: int) -> np.ndarray:
        """Draws this host's part of an epoch; see `BatchSampler.epoch`.

        Args:
          epoch: number of the epoch, >= 0.

        Returns:
          Image indices, int64 `[steps_per_epoch, batch_size]`.

        Raises:
          InputError: `epoch` is negative or not an integer.
        """
        return np.ascontiguousarray(self.sampler.epoch(epoch)[:, self._slice])

    def rows(self, start: int, stop: int) -> np.ndarray:
        """This host's part of consecutive batches; see `BatchSampler.rows`.

        Args:
          start: first step, >= 0.
          stop: step after the last one.

        Returns:
          int64 `[stop - start, batch_size]`.
        """
        return self.sampler.rows(start, stop)[:, self._slice]

    @property
    def scheduled(self) -> bool:
        """Whether the class distribution changes from epoch to epoch."""
        return self.sampler.scheduled

    def class_prior(self, *, epoch: int = 0, embedded_weight: float | None = None) -> np.ndarray:
        """The class distribution of the whole batch, over which the hosts average their losses.

        Args:
          epoch: see `BatchSampler.class_prior`.
          embedded_weight: see there.

        Returns:
          float64 `[C]`, of sum 1.
        """
        return self.sampler.class_prior(epoch=epoch, embedded_weight=embedded_weight)

    def flags(self, step: int) -> np.ndarray:
        """This host's part of the sampler's flags; see `BatchSampler.flags`.

        Args:
          step: step of the whole run, >= 0.

        Returns:
          bool `[batch_size]`, True for embedded slots.
        """
        return self.sampler.flags(step)[self._slice]
