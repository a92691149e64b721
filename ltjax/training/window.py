"""The metrics of the steps since the last log line."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

# Metrics of one dispatch, a dictionary for each group of seeds (`Seeds.step`).
DeviceMetrics = list[dict[str, jax.Array]]
HostMetrics = dict[str, np.ndarray]


class MetricsWindow:
    """Metrics `[steps, seeds]` since the last log line: still on the devices, or fetched.

    They stay on the devices until they are needed, since fetching them waits for their steps.

    Args:
      fetched: metrics that a checkpoint holds, of the steps between the last log line and it.

    Attributes:
      last_step: number of the last step added.
      timed_steps: steps that count for the speed.
    """

    def __init__(self, fetched: HostMetrics | None = None):
        self.last_step, self.timed_steps = 0, 0
        self._on_devices: list[DeviceMetrics] = []
        self._fetched: list[HostMetrics] = [fetched] if fetched else []

    def add(self, metrics: DeviceMetrics, step: int, *, timed: int) -> None:
        """Adds the metrics of a dispatch.

        Args:
          metrics: of all its steps, on the devices.
          step: number of its last step.
          timed: how many of its steps count for the speed.
        """
        self._on_devices.append(metrics)
        self.last_step = step
        self.timed_steps += timed

    def fetch(self, gather: Callable[[list[DeviceMetrics]], HostMetrics]) -> HostMetrics:
        """Fetches what is still on the devices.

        Args:
          gather: `Seeds.gather_metrics`.

        Returns:
          Metrics `[steps, seeds]` of the steps up to `last_step` that were not fetched before;
          empty where there are none.
        """
        if not self._on_devices:
            return {}
        new = gather(self._on_devices)
        self._on_devices = []
        self._fetched.append(new)
        return new

    def fetched(self) -> HostMetrics:
        """All metrics fetched so far, `[steps, seeds]`."""
        names = self._fetched[0] if self._fetched else []
        return {name: np.concatenate([part[name] for part in self._fetched]) for name in names}

    def means(self) -> HostMetrics:
        """Means over the steps fetched so far, `[seeds]`."""
        return {name: values.mean(axis=0) for name, values in self.fetched().items()}


def by_seed(prefix: str, values: dict[str, Any], seeds: Sequence[int]) -> dict[str, float]:
    """Entries of a log line: the mean over seeds and, where there are several, each seed's value.

    Args:
      prefix: of the entries' names.
      values: a number for each seed, by name.
      seeds: the seeds.

    >>> by_seed("test", {"few": [0.25, 0.75]}, [3, 4])
    {'test/few': 0.5, 'test/few/seed3': 0.25, 'test/few/seed4': 0.75}
    """
    line: dict[str, float] = {}
    for name, each in values.items():
        line[f"{prefix}/{name}"] = float(np.mean(each))
        if len(seeds) > 1:
            for seed, value in zip(seeds, each, strict=True):
                line[f"{prefix}/{name}/seed{seed}"] = float(value)
    return line
