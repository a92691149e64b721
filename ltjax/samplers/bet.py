"""BET, batch embedded training: its sampler, which embeds balanced slots in the regular stream.

A reconstruction: see docs/method.md. Its other half, the weights of the loss, is in
`ltjax.losses.bet`.
"""

import numpy as np

from ltjax.errors import Option, integer, number, require, require_integer
from ltjax.samplers.base import BatchSampler

EVERY = Option(1, integer(1, 10**6), "BET: number of steps from one embedded batch to the next")
FRACTION = Option(0.5, number(0, 1, open_low=True), "BET: share of such a batch that is embedded")


class EmbeddedSampler(BatchSampler):
    """One sampler embedded in another at a fixed frequency; made by `embed`.

    Args:
      regular: sampler of the regular stream.
      balanced: sampler of the embedded slots; its batch size is `slots`.
      every: number of steps from one embedded step to the next, >= 1.
      slots: number of embedded slots in an embedded step.

    Source: see `embed`.
    """

    def __init__(self, regular: BatchSampler, balanced: BatchSampler, every: int, slots: int):
        super().__init__(regular.batch_size, regular.steps_per_epoch)
        self.regular, self.balanced = regular, balanced
        self.every, self.slots = every, slots

    def __repr__(self) -> str:
        return f"embed({self.regular!r}, {self.balanced!r}, every={self.every}, slots={self.slots})"

    def epoch(self, epoch: int) -> np.ndarray:
        """Draws an epoch; see `BatchSampler.epoch`.

        Args:
          epoch: number of the epoch, >= 0.

        Returns:
          Image indices, int64 `[steps_per_epoch, batch_size]`; embedded slots are the last ones of
          their batch.

        Raises:
          InputError: `epoch` is negative or not an integer.
        """
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

    @property
    def scheduled(self) -> bool:
        """Whether the class distribution changes from epoch to epoch."""
        return self.regular.scheduled or self.balanced.scheduled

    def class_prior(self, *, epoch: int = 0, embedded_weight: float | None = None) -> np.ndarray:
        """The class distribution of the batches, averaged over the steps of a period of `every`.

            (1 - s) pi_regular + s pi_balanced

        Without weights, `s` is the share of the slots that are embedded, `slots / (every B)`. With
        BET's weights it is `w / every`: of `every` steps, one averages `1 - w` of the regular and
        `w` of the embedded examples, and the others are all regular. If an embedded step holds only
        embedded examples (`fraction=1`), its weights are all 1, and `s` is `1 / every`.

        Args:
          epoch: number of the epoch, >= 0; of effect only if one of the two samplers is
            `scheduled`. Its distribution is then averaged over what this epoch reads of it.
          embedded_weight: the weight `w` of `bet_weights`, if the loss has these weights (and not
            `scale_one_kind`); None counts every draw once.

        Returns:
          float64 `[C]`, of sum 1.

        Raises:
          InputError: `epoch` is negative or not an integer, or `embedded_weight` is out of range.

        >>> from ltjax.samplers import PowerSampler
        >>> labels = np.repeat([0, 1], [6, 2])
        >>> regular = PowerSampler(labels, 4, power=1, seed=0)
        >>> sampler = embed(regular, PowerSampler(labels, 2, power=0, seed=0), every=2)
        >>> sampler.class_prior().tolist(), sampler.class_prior(embedded_weight=1.0).tolist()
        ([0.6875, 0.3125], [0.625, 0.375])
        """
        epoch = require_integer("epoch", epoch, 0)
        mixed = self.slots < self.batch_size
        share = self.slots / self.batch_size
        if mixed and embedded_weight is not None:
            allowed = "a number from 0 to 1"
            require(0 <= embedded_weight <= 1, "embedded_weight", embedded_weight, allowed)
            share = embedded_weight
        share /= self.every
        steps = np.array([epoch, epoch + 1]) * self.steps_per_epoch
        embedded = steps // self.every
        images = steps * self.batch_size - embedded * self.slots
        regular = _average_prior(self.regular, images / self.batch_size)
        prior: np.ndarray = (1 - share) * regular
        prior += share * _average_prior(self.balanced, embedded.astype(float))
        return prior

    def flags(self, step: int) -> np.ndarray:
        """Which slots of a batch come from the balanced sampler.

        Args:
          step: step of the whole run, >= 0.

        Returns:
          bool `[batch_size]`, True for these slots.

        Raises:
          InputError: `step` is negative or not an integer.
        """
        flags = np.zeros(self.batch_size, bool)
        if (require_integer("step", step, 0) + 1) % self.every == 0:
            flags[self.batch_size - self.slots :] = True
        return flags


def _average_prior(sampler: BatchSampler, steps: np.ndarray) -> np.ndarray:
    """The class distribution of a sampler, averaged over its steps from the first to the second."""
    start, stop = steps / len(sampler)
    if not sampler.scheduled or stop <= start:
        return sampler.class_prior(epoch=int(start))
    first, last = int(start), int(np.ceil(stop))
    edges = np.clip(np.arange(first, last + 1), start, stop)
    priors = [sampler.class_prior(epoch=epoch) for epoch in range(first, last)]
    average: np.ndarray = np.diff(edges) @ np.array(priors) / (stop - start)
    return average


def embedded_slots(batch_size: int, fraction: float = FRACTION.default) -> int:
    """The number of slots that BET embeds in a batch: a fraction of them, rounded, at least one.

    Args:
      batch_size: images per batch.
      fraction: share of the slots, in (0, 1].

    Returns:
      The number of slots, which is the batch size that the balanced sampler needs.

    Raises:
      InputError: `fraction` is out of range.

    Source: ours.

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
    """BET's sampler: embeds class-balanced slots in every `every`-th batch of the regular stream.

    Steps `every - 1, 2 every - 1, ...` fill their last slots, a `fraction` of the batch, with the
    next batch of the balanced sampler. All other slots read the regular sampler as one endless
    stream, so none of its images is skipped. With `fraction=1` whole batches alternate, which is
    closest to the published papers; with `every=1, fraction=1` the result is the balanced sampler.

    Args:
      regular: sampler of the regular stream, with batches of `B` images.
      balanced: sampler of the embedded slots, with batches of `embedded_slots(B, fraction)` images.
      every: number of steps from one embedded step to the next, >= 1.
      fraction: share of the slots of an embedded step that are embedded, in (0, 1].

    Returns:
      A sampler; its `flags(step)` tell which slots are embedded, for `bet_weights`.

    Raises:
      InputError: `every` or `fraction` is out of range, or the balanced sampler's batch size is not
        the number of embedded slots.

    Source: reconstruction of BET (https://arxiv.org/abs/2112.05958,
    https://arxiv.org/abs/2408.17197): the papers state that it controls the frequency of balanced
    batches; `every` and `fraction` are ours.

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
