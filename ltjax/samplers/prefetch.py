"""Draws a sampler's next epoch on a background thread while the current one is in use."""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ltjax.errors import require_integer
from ltjax.samplers.base import BatchSampler, frozen
from ltjax.samplers.cache import EpochCache


class PrefetchSampler(BatchSampler):
    """A sampler whose next epoch is drawn by a background thread, each epoch once.

    NumPy releases the interpreter lock while it sorts and copies, so a training loop keeps running
    while the thread works. The batches are those of the sampler itself. Any number of threads can
    read, also through `shard` and `schedule`. Another process should be given the sampler itself,
    since it shares no memory with the thread of this one.

    Args:
      sampler: any sampler.
      epochs: epochs of the whole run, >= 1; no epoch after the last is drawn ahead.
      lag: number of steps, >= 0, by which the slowest reader may be behind the fastest. Enough
        epochs are cached that none is drawn again for it.

    Raises:
      InputError: `epochs` < 1 or `lag` < 0, or not integers.

    Source: ours.

    >>> from ltjax.samplers.baselines import PowerSampler
    >>> sampler = PowerSampler(np.array([0, 0, 0, 1]), 2, power=1, seed=0)
    >>> ahead = PrefetchSampler(sampler, epochs=3)
    >>> (ahead[5] == sampler[5]).all()
    np.True_
    >>> ahead.close()
    """

    def __init__(self, sampler: BatchSampler, epochs: int, *, lag: int = 0):
        super().__init__(sampler.batch_size, sampler.steps_per_epoch)
        self.sampler = sampler
        self.epochs = require_integer("epochs", epochs, 1)
        lag = require_integer("lag", lag, 0)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sampler")
        # The epochs of the slowest and of the fastest reader, those between them, and the next.
        self._futures: EpochCache[Future[np.ndarray]] = EpochCache(2 + -(-lag // len(self)))

    def __repr__(self) -> str:
        return repr(self.sampler)

    def epoch(self, epoch: int) -> np.ndarray:
        """An epoch of the sampler; drawing the one after it starts in the background.

        Args:
          epoch: number of the epoch, >= 0.

        Returns:
          Image indices, int64 `[steps_per_epoch, batch_size]`, read-only.

        Raises:
          InputError: `epoch` is negative or not an integer.
        """
        return self._drawn(require_integer("epoch", epoch, 0))

    def _drawn(self, epoch: int) -> np.ndarray:
        rows = self._futures.get(epoch, self._begin)
        if epoch + 1 < self.epochs:
            self._futures.get(epoch + 1, self._begin)
        return rows.result()

    def _begin(self, epoch: int) -> Future[np.ndarray]:
        return self._thread.submit(lambda: frozen(self.sampler.epoch(epoch)))

    @property
    def scheduled(self) -> bool:
        """Whether the class distribution changes from epoch to epoch."""
        return self.sampler.scheduled

    def class_prior(self, *, epoch: int = 0, embedded_weight: float | None = None) -> np.ndarray:
        """The sampler's class distribution; see `BatchSampler.class_prior`.

        Args:
          epoch: see there.
          embedded_weight: see there.

        Returns:
          float64 `[C]`, of sum 1.
        """
        return self.sampler.class_prior(epoch=epoch, embedded_weight=embedded_weight)

    def flags(self, step: int) -> np.ndarray:
        """The sampler's flags; see `BatchSampler.flags`.

        Args:
          step: step of the whole run, >= 0.

        Returns:
          bool `[batch_size]`, True for embedded slots.
        """
        return self.sampler.flags(step)

    def fingerprint(self) -> str:
        """The sampler's fingerprint; see `BatchSampler.fingerprint`.

        Returns:
          16 hexadecimal digits.
        """
        return self.sampler.fingerprint()

    def close(self) -> None:
        """Stops the thread without waiting for the epoch that it is drawing."""
        self._thread.shutdown(wait=False, cancel_futures=True)
