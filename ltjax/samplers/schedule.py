"""The batches of a whole run, as a finite sequence."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ltjax.errors import require_integer

if TYPE_CHECKING:
    from ltjax.samplers.base import BatchSampler


class BatchSchedule:
    """The batches of a whole run, as a finite sequence; made by `sampler.schedule(epochs)`.

    Its length is `epochs * len(sampler)`, and its batches are those of `sampler[step]`. Negative
    indices count from the end, and an index beyond the end raises `IndexError`. Thus
    `grain.MapDataset.source(sampler.schedule(epochs))` reads a whole run, whereas grain's `repeat`
    would read the first epoch again and again, since it takes indices modulo the length of the
    source.

    Args:
      sampler: sampler of the batches.
      epochs: number of epochs, >= 1.

    Raises:
      InputError: `epochs` is not an integer >= 1.

    Source: ours.

    >>> from ltjax.samplers.baselines import PowerSampler
    >>> sampler = PowerSampler(np.array([0, 0, 0, 1]), 2, power=1, seed=0)
    >>> schedule = sampler.schedule(epochs=3)
    >>> len(schedule), (schedule[-1] == sampler[5]).all()
    (6, np.True_)
    """

    def __init__(self, sampler: "BatchSampler", epochs: int):
        self.sampler, self.epochs = sampler, require_integer("epochs", epochs, 1)

    def __repr__(self) -> str:
        return f"{self.sampler!r}.schedule({self.epochs})"

    def __len__(self) -> int:
        """The number of steps in the run."""
        return self.epochs * len(self.sampler)

    def __getitem__(self, step: int) -> np.ndarray:
        """Image indices of one batch.

        Args:
          step: step of the run; a negative one counts from the end.

        Returns:
          int64 `[batch_size]`, read-only.

        Raises:
          IndexError: `step` is not a step of the run.
        """
        return self.sampler[range(len(self))[step]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.sampler[step] for step in range(len(self)))
