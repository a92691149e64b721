"""When things are due: after which steps the loop logs, evaluates and saves."""

import dataclasses
import math
from typing import NamedTuple


class Due(NamedTuple):
    """What is due after a step.

    Attributes:
      log: a line of metrics.
      evaluate: an evaluation on the test images.
      save: a checkpoint.
      ask: to ask the other hosts whether one of them is to stop.
      last: the end of the training.
    """

    log: bool
    evaluate: bool
    save: bool
    ask: bool
    last: bool

    def before_stop(self) -> "Due":
        """The same for a run that stops here: it logs and saves in any case."""
        return self._replace(log=True, save=True)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The periods of a training, in steps.

    Attributes:
      total: steps of the whole training.
      log_every: steps between two lines of metrics.
      evaluate_every: steps between two evaluations.
      save_every: steps between two checkpoints.
      hosts: number of hosts. One host can stop after any step; several have to stop together, so
        they ask each other, and only where they log.

    >>> schedule = Schedule(total=10, log_every=4, evaluate_every=10, save_every=6)
    >>> [step for step in range(1, 11) if schedule.at(step).log]
    [4, 8, 10]
    >>> schedule.at(6)
    Due(log=False, evaluate=False, save=True, ask=True, last=False)
    """

    total: int
    log_every: int
    evaluate_every: int
    save_every: int
    hosts: int = 1

    def at(self, step: int) -> Due:
        """What is due once `step` steps are done; everything is at the end."""
        last = step == self.total
        log = last or step % self.log_every == 0
        return Due(
            log=log,
            evaluate=last or step % self.evaluate_every == 0,
            save=last or step % self.save_every == 0,
            ask=log or self.hosts == 1,
            last=last,
        )

    def fused_steps(self, most: int) -> int:
        """Steps in one dispatch: the largest number up to `most` that divides every period.

        So no dispatch runs past a log, an evaluation, a checkpoint or the end, and one compiled
        program serves the whole run.

        >>> Schedule(total=700, log_every=50, evaluate_every=100, save_every=100).fused_steps(20)
        10
        """
        common = math.gcd(self.total, self.log_every, self.evaluate_every, self.save_every)
        return max(d for d in range(1, min(most, common) + 1) if common % d == 0)
