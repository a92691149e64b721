"""Prepares a plan's next epoch on a background thread while the present one is in use."""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from ltjax.errors import require_integer
from ltjax.samplers.base import BatchPlan, EpochPlan


class Ahead(EpochPlan):
    """A plan read through a window of two epochs: the one in use and the next.

    NumPy lets go of the interpreter while it sorts and copies, so a training loop goes on
    while the thread works. What is drawn is the plan's own.

    Args:
      plan: any plan.
      epochs: epochs of the schedule; none after it is prepared.
    """

    def __init__(self, plan: BatchPlan, epochs: int):
        self.plan = plan
        self.epochs = require_integer("epochs", epochs, 1)
        self.batch_size, self.steps_per_epoch = plan.batch_size, plan.steps_per_epoch
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="plan")
        self._next: tuple[int, Future[np.ndarray]] | None = None

    def __repr__(self) -> str:
        return repr(self.plan)

    def epoch(self, epoch: int) -> np.ndarray:
        """Indices of an epoch, as of the plan; starts work on the one after it."""
        waiting, self._next = self._next, None
        if waiting is not None and waiting[0] == epoch:
            rows = waiting[1].result()
        else:
            # On the same thread, so that the plan's own cache has one user at a time.
            rows = self._thread.submit(self.plan.epoch, epoch).result()
        if epoch + 1 < self.epochs:
            self._next = epoch + 1, self._thread.submit(self.plan.epoch, epoch + 1)
        return rows

    def flags(self, step: int) -> np.ndarray:
        """Bool `[batch_size]`, as of the plan."""
        return self.plan.flags(step)

    def fingerprint(self) -> str:
        """Short hash, as of the plan."""
        return self.plan.fingerprint()

    def close(self) -> None:
        """Ends the thread; what it is working on is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)
