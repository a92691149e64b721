"""The epochs of a sampler that are in use, drawn once however many threads read them."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class EpochCache(Generic[T]):
    """Caches what was made for the epochs requested last.

    Threads can share a cache: each epoch is made by the first thread that requests it, while the
    others wait. A copy starts empty, also one that is pickled for another process.

    Args:
      keep: number of epochs to keep, >= 1. If there are more, the epoch farthest from the requested
        one is dropped, so a reader that lags behind keeps its epoch while others go ahead.

    Source: ours.

    >>> cache = EpochCache(2)
    >>> [cache.get(epoch, str) for epoch in (0, 1, 0, 2)], sorted(cache.epochs)
    (['0', '1', '0', '2'], [1, 2])
    """

    def __init__(self, keep: int):
        self.keep = keep
        self.epochs: dict[int, T] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["EpochCache[T]"], tuple[int]]:
        return EpochCache, (self.keep,)

    def get(self, epoch: int, make: Callable[[int], T]) -> T:
        """Looks up an epoch, or makes it.

        Args:
          epoch: number of the epoch.
          make: function that makes what belongs to an epoch; called only if it is not cached.

        Returns:
          What `make(epoch)` returned.
        """
        with self._lock:
            if epoch not in self.epochs:
                self.epochs[epoch] = make(epoch)
                while len(self.epochs) > self.keep:
                    del self.epochs[max(self.epochs, key=lambda other: abs(other - epoch))]
            return self.epochs[epoch]
