"""BET's sampler side: balanced slots embedded in the regular stream. NumPy alone.

A reconstruction: see docs/method.md.
"""

import numpy as np

from ltjax.errors import require, require_integer
from ltjax.samplers.base import EpochPlan


class EmbeddedPlan(EpochPlan):
    """One plan embedded in another at a fixed frequency; made by `embed`."""

    def __init__(self, regular: EpochPlan, balanced: EpochPlan, every: int, slots: int):
        self.regular, self.balanced = regular, balanced
        self.every, self.slots = every, slots
        self.batch_size = regular.batch_size
        self.steps_per_epoch = regular.steps_per_epoch

    def __repr__(self) -> str:
        return f"embed({self.regular!r}, {self.balanced!r}, every={self.every}, slots={self.slots})"

    def epoch(self, epoch: int) -> np.ndarray:
        """Indices of an epoch, int64 `[steps_per_epoch, batch_size]`; embedded slots last."""
        first = require_integer("epoch", epoch, 0) * self.steps_per_epoch
        steps = np.arange(first, first + self.steps_per_epoch + 1)
        embedded = steps // self.every  # embedded steps before each step
        starts = steps * self.batch_size - embedded * self.slots  # in the regular stream
        out = np.empty((self.steps_per_epoch, self.batch_size), np.int64)
        hit = np.diff(embedded) > 0
        regular = np.ones(out.shape, bool)
        regular[hit, self.batch_size - self.slots :] = False
        out[regular] = self._stream(int(starts[0]), int(starts[-1]))
        balanced = self.balanced.rows(int(embedded[0]), int(embedded[-1]))
        out[hit, self.batch_size - self.slots :] = balanced
        return out

    def _stream(self, start: int, stop: int) -> np.ndarray:
        """The regular plan, read as one endless stream, from `start` to `stop`."""
        size = self.batch_size
        first = start // size
        return self.regular.rows(first, -(-stop // size)).ravel()[start - first * size :][
            : stop - start
        ]

    def flags(self, step: int) -> np.ndarray:
        """Bool `[batch_size]`, True for the slots that come from the balanced plan."""
        flags = np.zeros(self.batch_size, bool)
        if (require_integer("step", step, 0) + 1) % self.every == 0:
            flags[self.batch_size - self.slots :] = True
        return flags


def embedded_slots(batch_size: int, fraction: float) -> int:
    """Slots of a batch that BET embeds: `fraction` of them, rounded, at least one."""
    require(0 < fraction <= 1, "fraction", fraction, "a number in (0, 1]")
    return max(round(fraction * batch_size), 1)


def embed(
    regular: EpochPlan, balanced: EpochPlan, *, every: int = 1, fraction: float = 1.0
) -> EmbeddedPlan:
    """BET's plan side: embeds balanced slots in the regular stream at every `every`-th step.

    Steps `every - 1, 2 every - 1, ...` take their last `fraction` of slots from the
    balanced plan's next batch; all other slots read the regular plan as one endless
    stream, so no image of it is skipped. `fraction=1` interleaves whole batches (the
    reading nearest to the published reviews); `every=1, fraction=1` is the balanced plan.

    Args:
      regular: plan of the regular stream, batches of B.
      balanced: plan of the embedded slots, batches of `embedded_slots(B, fraction)`.
      every: embed at every so many steps, >= 1.
      fraction: share of an embedded step's slots, in (0, 1].

    Returns:
      A plan; `.flags(step)` tells which slots are embedded.

    Source: reconstruction of BET (arXiv 2112.05958, 2408.17197): that it controls the
    frequency of balanced batches is stated there; `every` and `fraction` are ours.

    >>> from ltjax.samplers.b3rs import B3RS
    >>> from ltjax.samplers.baselines import PowerSampler
    >>> labels = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    >>> regular = PowerSampler(labels, 4, power=1, seed=0)
    >>> plan = embed(regular, B3RS(labels, 2, num_blocks=2, seed=1), every=2, fraction=0.5)
    >>> plan.flags(0).any(), plan.flags(1).tolist()
    (np.False_, [False, False, True, True])
    """
    every = require_integer("every", every, 1)
    slots = embedded_slots(regular.batch_size, fraction)
    require(
        balanced.batch_size == slots,
        "balanced.batch_size",
        balanced.batch_size,
        f"{slots}, that is fraction {fraction:g} of {regular.batch_size}",
    )
    return EmbeddedPlan(regular, balanced, every, slots)
