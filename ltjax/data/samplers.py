"""Batch plans: which images make up which batch, as NumPy functions of (seed, epoch).

A plan is stateless: `plan.epoch(e)` is the whole epoch and `plan[step]` one batch, both
functions of the seed and the position alone, equal on every host. So a run resumes from
its step, and nothing of a sampler's state is ever stored. NumPy alone.
"""

from typing import Protocol

import numpy as np

from ltjax.errors import InputError, require


class BatchPlan(Protocol):
    """Random access to batches of image indices."""

    batch_size: int
    steps_per_epoch: int

    def epoch(self, epoch: int) -> np.ndarray:
        """Indices of an epoch, int64 `[steps_per_epoch, batch_size]`."""
        ...

    def flags(self, step: int) -> np.ndarray:
        """Bool `[batch_size]`, True for slots embedded by BET."""
        ...

    def __getitem__(self, step: int) -> np.ndarray:
        """Indices of one batch, int64 `[batch_size]`."""
        ...


def check_labels(labels: np.ndarray) -> np.ndarray:
    """Returns labels as int64 `[N]`, or raises `InputError` naming what is wrong."""
    labels = np.asarray(labels)
    require(labels.ndim == 1, "labels.shape", labels.shape, "one dimension")
    require(len(labels) > 0, "len(labels)", 0, "at least one label")
    integral = np.issubdtype(labels.dtype, np.integer)
    require(integral, "labels.dtype", str(labels.dtype), "an integer dtype")
    require(labels.min() >= 0, "labels.min()", int(labels.min()), "labels >= 0")
    return labels.astype(np.int64)


def generator(seed: int, *position: int) -> np.random.Generator:
    """The random generator of one place in the schedule, e.g. `generator(seed, epoch)`."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, *position))))


def run_positions(lengths: np.ndarray) -> np.ndarray:
    """`[0 ... lengths[0]-1, 0 ... lengths[1]-1, ...]`.

    >>> run_positions(np.array([2, 0, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    starts = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) - np.repeat(starts, lengths)


def shuffled_cycles(rng: np.random.Generator, sizes: np.ndarray, cycles: np.ndarray) -> np.ndarray:
    """Several freshly shuffled cycles `0 ... size - 1` for each of several groups.

    Args:
      rng: random generator.
      sizes: int `[G]`, members of each group.
      cycles: int `[G]`, cycles wanted of each group.

    Returns:
      int64 `[sum sizes * cycles]`, group after group, cycle after cycle.
    """
    totals = cycles * sizes
    position = run_positions(totals)
    size = np.repeat(sizes, totals)
    # One sort shuffles every cycle of every group: the integer part of the key is the
    # number of the cycle, which keeps cycles in place; the fraction orders its members.
    cycle = position // size + np.repeat(np.cumsum(cycles) - cycles, totals)
    order = np.argsort(cycle + rng.random(len(cycle)), kind="stable")
    return (position % size)[order]


def cyclic_draws(rng: np.random.Generator, size: int, draws: int) -> np.ndarray:
    """`draws` members of `0 ... size - 1`, going round freshly shuffled cycles.

    Any two members are drawn equally often up to one draw.
    """
    cycles = -(-draws // size)
    return shuffled_cycles(rng, np.array([size]), np.array([cycles]))[:draws]


def draw_images(
    rng: np.random.Generator, classes: np.ndarray, by_class: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Fills planned class slots with images, without replacement within cycles.

    Every class's images go round in freshly shuffled cycles. Where a batch lies across the
    end of a cycle, the next cycle is rearranged so that it does not start with images that
    the batch already holds: a batch repeats an image only if the class has fewer images
    than the batch has slots for it.

    Args:
      rng: random generator.
      classes: int `[S, B]`, the class of every slot; its classes must have images.
      by_class: int `[N]`, image indices sorted by class.
      counts: int `[C]`, images per class.

    Returns:
      int64 `[S, B]`, image indices.
    """
    steps, batch = classes.shape
    slots = np.argsort(classes, axis=None, kind="stable")  # class by class, in time order
    draws = np.bincount(classes.ravel(), minlength=len(counts))
    cycles = -(-draws // np.maximum(counts, 1))
    totals = cycles * counts
    position = run_positions(totals)
    used = position < np.repeat(draws, totals)
    member = shuffled_cycles(rng, counts, cycles)
    step = np.full(len(member), -1)
    step[used] = slots // batch
    _separate_cycles(rng, member, step, position, np.repeat(counts, totals))
    first = np.cumsum(counts) - counts
    images = np.empty(steps * batch, np.int64)
    images[slots] = by_class[(np.repeat(first, totals) + member)[used]]
    return images.reshape(steps, batch)


def _separate_cycles(
    rng: np.random.Generator,
    member: np.ndarray,
    step: np.ndarray,
    position: np.ndarray,
    size: np.ndarray,
) -> None:
    """Rearranges cycles in place so that no batch repeats an image across a cycle's end.

    All arrays run over the drawn cycles, class by class: the member, the step that uses
    it (-1 where none does), its position among the class's draws, the size of its class.
    """
    index = np.arange(len(member))
    fresh = (position == 0) | (step != np.roll(step, 1))
    start = np.maximum.accumulate(np.where(fresh, index, 0))  # of the (class, step) run
    length = np.bincount(start, minlength=len(member))
    starts_cycle = (position > 0) & (position % np.maximum(size, 1) == 0)
    # Boundaries inside a batch that has no more slots than the class has images.
    place = np.flatnonzero(starts_cycle & ~fresh & (step >= 0) & (length[start] <= size))
    before = place - start[place]
    after = length[start[place]] - before
    follows = place[1:] == place[:-1] + size[place[:-1]]  # boundary i + 1 ends the cycle of i
    previous = np.concatenate([[False], follows])
    pending = np.arange(len(place))
    clash = np.zeros(len(place), bool)
    while len(pending):
        chosen = place[pending], before[pending], after[pending]
        clash[pending] = _clashes(member, *chosen, size)
        # A cycle is final once the boundary before it is settled, so a boundary waits for
        # the next round where the one before it is itself about to change.
        waits = clash & np.roll(clash, 1) & previous
        now = np.flatnonzero(clash & ~waits)
        _defer_held(rng, member, place[now], before[now], after[now], size)
        clash[now] = False
        changed = now[now < len(follows)]
        pending = np.union1d(np.flatnonzero(waits), changed[follows[changed]] + 1)


def _clashes(member, place, before, after, size) -> np.ndarray:
    """Whether the first `after` members from `place` on repeat one of the `before` last."""
    which = np.arange(len(place))
    width = size[place].max() + 1
    held = np.repeat(which, before) * width
    held += member[np.repeat(place - before, before) + run_positions(before)]
    new = np.repeat(which, after) * width
    new += member[np.repeat(place, after) + run_positions(after)]
    clash = np.zeros(len(place), bool)
    clash[np.repeat(which, after)[np.isin(new, held)]] = True
    return clash


def _defer_held(rng, member, place, before, after, size) -> None:
    """Moves members that the batch holds already out of the first `after` of each cycle.

    They go to random places behind the first `after` members that the batch does not
    hold; all others keep their order.
    """
    if not len(place):
        return
    sizes = size[place]
    which = np.repeat(np.arange(len(place)), sizes)
    within = run_positions(sizes)
    cycle = member[np.repeat(place, sizes) + within]
    width = sizes.max() + 1
    held_keys = np.repeat(np.arange(len(place)), before) * width
    held_keys += member[np.repeat(place - before, before) + run_positions(before)]
    held = np.isin(which * width + cycle, held_keys)
    total = np.cumsum(~held)
    first = np.cumsum(sizes) - sizes
    free = total - np.repeat(total[first] - ~held[first], sizes)  # not held, up to here
    need = np.repeat(after, sizes)
    early = held & (free < need)
    anchor = np.bincount(which[free < need], minlength=len(place))[which]
    span = np.repeat(sizes, sizes) - anchor
    key = np.where(early, anchor + 0.5 + rng.random(len(within)) * (span - 0.5), within)
    order = np.lexsort((key, which))
    member[np.repeat(place, sizes) + within] = cycle[order]


class EpochPlan:
    """Shared shell of the plans: random access by step, over a cached epoch.

    Subclasses set `batch_size`, `steps_per_epoch` and define `epoch`.
    """

    batch_size: int
    steps_per_epoch: int

    def __init__(self, labels: np.ndarray, batch_size: int, *, seed: int):
        self.labels = check_labels(labels)
        require(
            isinstance(batch_size, (int, np.integer)) and batch_size >= 1,
            "batch_size",
            batch_size,
            "an integer >= 1",
        )
        require(seed >= 0, "seed", seed, "an integer >= 0")
        self.batch_size = int(batch_size)
        self.seed = int(seed)
        self.steps_per_epoch = -(-len(self.labels) // self.batch_size)
        self.counts = np.bincount(self.labels)
        self.by_class = np.argsort(self.labels, kind="stable")
        self._cached: tuple[int, np.ndarray] | None = None

    def epoch(self, epoch: int) -> np.ndarray:
        """Indices of an epoch, int64 `[steps_per_epoch, batch_size]`."""
        raise InputError(f"{type(self).__name__} does not define epoch()")

    def __getitem__(self, step: int) -> np.ndarray:
        """Indices of one batch, int64 `[batch_size]`."""
        epoch, offset = divmod(step, self.steps_per_epoch)
        cached = self._cached
        if cached is None or cached[0] != epoch:
            cached = self._cached = (epoch, self.epoch(epoch))
        return cached[1][offset]

    def flags(self, step: int) -> np.ndarray:
        """Bool `[batch_size]`: no slot of a plain plan is embedded."""
        return np.zeros(self.batch_size, bool)


class PowerSampler(EpochPlan):
    """Draws classes in proportion to a power of their size.

        p_c = n_c^q / sum_k n_k^q

    Power 1 is the ordinary instance-balanced epoch: every image once, in a fresh shuffle,
    the last batch filled from the next shuffle's start. For other powers the class of every
    slot is drawn independently, and images of a class go round in shuffled cycles.

    Args:
      labels: int `[N]`.
      batch_size: images per batch.
      power: `q`; 1 instance-balanced, 0.5 square root, 0 class-balanced, -1 reverse.
      seed: integer >= 0.

    Source: Kang et al., Decoupling Representation and Classifier (ICLR 2020), eq. 1.

    >>> PowerSampler(np.array([0, 0, 0, 1]), 2, power=1, seed=0).epoch(0).shape
    (2, 2)
    """

    def __init__(self, labels: np.ndarray, batch_size: int, *, power: float, seed: int):
        super().__init__(labels, batch_size, seed=seed)
        require(bool(np.isfinite(power)), "power", power, "a finite number")
        self.power = float(power)

    def __repr__(self) -> str:
        return (
            f"PowerSampler(images={len(self.labels)}, batch_size={self.batch_size}, "
            f"power={self.power:g}, seed={self.seed})"
        )

    def epoch(self, epoch: int) -> np.ndarray:
        rng = generator(self.seed, epoch)
        shape = (self.steps_per_epoch, self.batch_size)
        if self.power == 1:
            size = len(self.labels)
            order = rng.permutation(size)
            # A set smaller than one batch goes round more than once.
            extra = cyclic_draws(rng, size, shape[0] * shape[1] - size)
            return np.concatenate([order, extra]).reshape(shape)
        present = np.flatnonzero(self.counts)
        weight = self.counts[present].astype(float) ** self.power
        cumulative = np.cumsum(weight / weight.sum())
        drawn = np.searchsorted(cumulative[:-1], rng.random(shape), side="right")
        return draw_images(rng, present[drawn], self.by_class, self.counts)
