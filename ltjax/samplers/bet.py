"""BET, the batch embedded training, on the sampler's side: balanced slots in the regular stream.

A reconstruction: see docs/method.md. The other side, the weights of the loss, is
`ltjax.losses.bet`.
"""

import numpy as np

from ltjax.errors import Option, integer, number, require, require_integer
from ltjax.samplers.base import BatchSampler

EVERY = Option(1, integer(1), "BET: embed at every so many steps")
FRACTION = Option(0.5, number(0, 1, open_low=True), "BET: embedded share of a batch")


class EmbeddedSampler(BatchSampler):
    """One sampler embedded in another at a fixed frequency; made by `embed`."""

    def __init__(self, regular: BatchSampler, balanced: BatchSampler, every: int, slots: int):
        super().__init__(regular.batch_size, regular.steps_per_epoch)
        self.regular, self.balanced = regular, balanced
        self.every, self.slots = every, slots

    def __repr__(self) -> str:
        return f"embed({self.regular!r}, {self.balanced!r}, every={self.every}, slots={self.slots})"

    def epoch(self, epoch: int) -> np.ndarray:
        """Draws an epoch, int64 `[steps_per_epoch, batch_size]`; embedded slots come last."""
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
        """Images `start ... stop - 1` of the regular sampler, read as one endless stream."""
        size = self.batch_size
        first = start // size
        images = self.regular.rows(first, -(-stop // size)).ravel()
        return images[start - first * size :][: stop - start]

    def flags(self, step: int) -> np.ndarray:
        """Bool `[batch_size]`, True for the slots that come from the balanced sampler."""
        flags = np.zeros(self.batch_size, bool)
        if (require_integer("step", step, 0) + 1) % self.every == 0:
            flags[self.batch_size - self.slots :] = True
        return flags


def embedded_slots(batch_size: int, fraction: float = FRACTION.default) -> int:
    """Slots of a batch that BET embeds: `fraction` of them, rounded, at least one.

    Args:
      batch_size: images per batch.
      fraction: share of the slots, in (0, 1].

    Returns:
      The batch size of the balanced sampler.

    Raises:
      InputError: `fraction` is out of range.

    >>> embedded_slots(32), embedded_slots(32, fraction=0.25)
    (16, 8)
    """
    FRACTION.check("fraction", fraction)
    return max(round(fraction * batch_size), 1)


def embed(
    regular: BatchSampler,
    balanced: BatchSampler,
    *,
    every: int = EVERY.default,
    fraction: float = FRACTION.default,
) -> EmbeddedSampler:
    """BET's sampler: embeds balanced slots in the regular stream at every `every`-th step.

    Steps `every - 1, 2 every - 1, ...` take their last slots, a `fraction` of the batch, from the
    balanced sampler's next batch. All other slots read the regular sampler as one endless stream,
    so no image of it is skipped. With `fraction=1` whole batches alternate (the reading nearest to
    the published reviews); with `every=1, fraction=1` the result is the balanced sampler.

    Args:
      regular: sampler of the regular stream, batches of `B` images.
      balanced: sampler of the embedded slots, batches of `embedded_slots(B, fraction)` images.
      every: embed at every so many steps, >= 1.
      fraction: share of an embedded step's slots, in (0, 1].

    Returns:
      A sampler; `.flags(step)` tells which slots are embedded, for the weights of the loss.

    Raises:
      InputError: `every` or `fraction` is out of range, or the batch size of the balanced sampler
        is not that of the embedded slots.

    Source: reconstruction of BET (https://arxiv.org/abs/2112.05958,
    https://arxiv.org/abs/2408.17197): that it controls the frequency of balanced batches is stated
    there; `every` and `fraction` are ours.

    >>> from ltjax.samplers import B3RS, PowerSampler
    >>> labels = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    >>> regular = PowerSampler(labels, 4, power=1, seed=0)
    >>> sampler = embed(regular, B3RS(labels, 2, num_blocks=2, seed=1), every=2, fraction=0.5)
    >>> sampler.flags(0).tolist(), sampler.flags(1).tolist()
    ([False, False, False, False], [False, False, True, True])
    """
    EVERY.check("every", every)
    slots = embedded_slots(regular.batch_size, fraction)
    require(
        balanced.batch_size == slots,
        "balanced.batch_size",
        balanced.batch_size,
        f"{slots}, that is fraction {fraction:g} of {regular.batch_size}",
    )
    return EmbeddedSampler(regular, balanced, int(every), slots)
