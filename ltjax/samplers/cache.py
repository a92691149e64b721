"""The epochs of a sampler that are in use, drawn once however many threads read them."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class EpochCache(Generic[T]):
    """Keeps what was made for the epochs last asked for.

    Threads share it: each epoch is made by the first that asks for it, while the others wait.
    A copy, also one that is pickled for another process, starts empty.

    Args:
      keep: epochs to keep, >= 1. Beyond these, the epoch farthest from the one asked for is
        dropped, so a reader that lags behind keeps its epoch while the others go ahead.

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
        """What was made for `epoch`, or what `make(epoch)` returns."""
        with self._lock:
            if epoch not in self.epochs:
                self.epochs[epoch] = make(epoch)
                while len(self.epochs) > self.keep:
                    del self.epochs[max(self.epochs, key=lambda other: abs(other - epoch))]
            return self.epochs[epoch]
