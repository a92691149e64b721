"""Draws a sampler's next epoch on a background thread while the present one is in use."""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ltjax.errors import require_integer
from ltjax.samplers.base import BatchSampler, frozen
from ltjax.samplers.cache import EpochCache


class PrefetchSampler(BatchSampler):
    """A sampler whose next epoch is drawn while this one is in use, each epoch once.

    NumPy releases the interpreter while it sorts and copies, so a training loop goes on while the
    thread works. The batches are those of the sampler itself. Any number of threads can read, also
    through `shard` and `schedule`. A process of its own should be given the sampler itself: it
    shares no memory with the thread here.

    Args:
      sampler: any sampler.
      epochs: of the whole run; none after the last is drawn ahead.
      lag: how many steps the slowest reader may be behind the fastest. So many are kept that no
        epoch is drawn again for it.

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
        """An epoch of the sampler, not writable; the one after it is begun."""
        return self._drawn(require_integer("epoch", epoch, 0))

    def _drawn(self, epoch: int) -> np.ndarray:
        rows = self._futures.get(epoch, self._begin)
        if epoch + 1 < self.epochs:
            self._futures.get(epoch + 1, self._begin)
        return rows.result()

    def _begin(self, epoch: int) -> Future[np.ndarray]:
        return self._thread.submit(lambda: frozen(self.sampler.epoch(epoch)))

    def flags(self, step: int) -> np.ndarray:
        """Bool `[batch_size]`, as of the sampler."""
        return self.sampler.flags(step)

    def fingerprint(self) -> str:
        """Short hash, as of the sampler."""
        return self.sampler.fingerprint()

    def close(self) -> None:
        """Ends the thread; what it is working on is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)
