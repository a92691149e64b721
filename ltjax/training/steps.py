"""The training loop: the only one. It takes steps on a schedule and calls what is due after them.

`loop.Loop` makes a run of it, with logs, evaluations and checkpoints in a folder; `heads` trains
classifiers on features in memory with it, for `LongTailClassifier`.
"""

from typing import Protocol

from ltjax.data.loader import Batch
from ltjax.training.clock import TrainingClock
from ltjax.training.progress import Profile
from ltjax.training.schedule import Due, Schedule
from ltjax.training.window import DeviceMetrics, MetricsWindow


class Trained(Protocol):
    """What the loop trains: networks that take the same steps side by side."""

    def load(self, first: int, count: int) -> list[Batch]:
        """Prepares the batches of `count` steps from step `first`."""
        ...

    def step(self, batches: list[Batch]) -> DeviceMetrics:
        """Sends the steps of batches that `load` gave to the devices."""
        ...

    def block(self) -> None:
        """Waits until the steps under way are done."""
        ...


class StepLoop:
    """Takes the steps of a schedule; subclasses say what happens when something is due.

    Args:
      trained: what takes the steps.
      schedule: when something is due.
      most_fused: most steps in one dispatch.
      profile: records a trace of some steps, or None.

    Attributes:
      step: steps that are done, or under way on the devices.
      clock: training time.
    """

    def __init__(
        self,
        trained: Trained,
        schedule: Schedule,
        most_fused: int,
        profile: Profile | None = None,
    ):
        self.step, self.clock = 0, TrainingClock()
        self._trained, self._schedule, self._profile = trained, schedule, profile
        self._fused = schedule.fused_steps(most_fused)
        self._window = MetricsWindow()

    def take_all(self) -> None:
        """Takes the steps that are left."""
        going = True
        while going and self.step < self._schedule.total:
            self._take_steps()
            self._under_way()
            going = self._after(self._schedule.at(self.step))

    def _under_way(self) -> None:
        """Called once the devices are busy again: what the host has put off until then."""

    def _after(self, due: Due) -> bool:
        """Does what is due after the steps so far.

        Args:
          due: what that is.

        Returns:
          Whether to go on.
        """
        return True

    def _take_steps(self) -> None:
        """Sends the next steps to the devices; waits for the first ones, which compile."""
        if self._profile:
            self._profile.before(self.step, self._fused)
        with self.clock.input():
            batches = self._trained.load(self.step, self._fused)
        metrics = self._trained.step(batches)
        self.step += self._fused
        if self._profile:
            self._profile.after(self.step, self._trained.block)
        self._window.add(metrics, self.step, timed=self._fused if self.clock.running else 0)
        if not self.clock.running:
            self._trained.block()
            self.clock.start()
