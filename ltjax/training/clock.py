"""The clock of a training: it runs while steps are taken, and stands still otherwise."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple


class Lap(NamedTuple):
    """What happened between two log lines.

    Attributes:
      images: images trained on.
      seconds: training time.
      input_seconds: the part of it spent on preparing batches.
    """

    images: int
    seconds: float
    input_seconds: float

    @property
    def images_per_second(self) -> float:
        """Speed of the training."""
        return self.images / self.seconds

    @property
    def input_share(self) -> float:
        """Share of the training time spent on preparing batches, 0 to 1."""
        return self.input_seconds / self.seconds


class TrainingClock:
    """Measures the time of training steps, without compilation, evaluations and checkpoints.

    Attributes:
      seconds: training time of all laps; a checkpoint holds it.
      images: images of all laps; a checkpoint holds them.
      running: False until the first, compiling steps are done.
    """

    def __init__(self) -> None:
        self.seconds, self.images, self.running = 0.0, 0, False
        self._since, self._input = time.perf_counter(), 0.0

    def start(self) -> None:
        """Starts the first lap: what came before, the compilation, does not count."""
        self.running, self._since, self._input = True, time.perf_counter(), 0.0

    @contextlib.contextmanager
    def input(self) -> Iterator[None]:
        """Counts what it encloses as input time."""
        started = time.perf_counter()
        yield
        self._input += time.perf_counter() - started

    @contextlib.contextmanager
    def paused(self, wait: Callable[[], None]) -> Iterator[None]:
        """Leaves what it encloses out of the training time.

        Args:
          wait: waits for the steps under way on the devices, which are training.
        """
        wait()
        started = time.perf_counter()
        yield
        self._since += time.perf_counter() - started

    def lap(self, images: int) -> Lap:
        """Ends a lap of so many images and starts the next."""
        now = time.perf_counter()
        lap = Lap(images, now - self._since, self._input)
        self._since, self._input = now, 0.0
        self.seconds += lap.seconds
        self.images += images
        return lap
