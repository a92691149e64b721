"""B3RS, the Block-based Relatively Balanced Batch Sampler, and BET's plan side. NumPy alone.

Both are reconstructions: the equations of the sampler are not public. See docs/method.md.
"""

import numpy as np

from ltjax.data.draws import batch_shuffle, cyclic_times, narrow
from ltjax.data.plan import EpochPlan, LabelIndex, LabelPlan, require_integer
from ltjax.errors import require

PARTITIONS = ("classes", "log_count", "images")


def partition_classes(counts: np.ndarray, num_blocks: int, partition: str) -> list[np.ndarray]:
    """Cuts classes, sorted by count descending, into contiguous blocks.

    Args:
      counts: int `[C]`; classes without images are left out.
      num_blocks: blocks wanted, from 1 to the number of classes with images.
      partition: "classes" gives blocks of equally many classes (up to one), "log_count"
        cuts the range of `log n_c` into equal spans, "images" gives blocks of about
        equally many images. Every block gets at least one class.

    Returns:
      One int array of classes per block, head first.

    Source: B3RS is a reconstruction of arXiv 2112.05958 / 2408.17197; the partitions are ours.

    >>> [b.tolist() for b in partition_classes(np.array([9, 3, 5, 1]), 2, "classes")]
    [[0, 2], [1, 3]]
    """
    present = np.flatnonzero(counts)
    order = present[np.argsort(-counts[present], kind="stable")]
    require_integer("num_blocks", num_blocks, 1)
    require(
        num_blocks <= len(order),
        "num_blocks",
        num_blocks,
        f"an integer from 1 to {len(order)} (classes with images)",
    )
    require(partition in PARTITIONS, "partition", partition, f"one of {', '.join(PARTITIONS)}")
    if partition == "classes":
        return np.array_split(order, num_blocks)
    sizes = counts[order].astype(float)
    if partition == "log_count":
        span = np.log(sizes[0]) - np.log(sizes)
        level = span / max(span[-1], 1e-12) * num_blocks
    else:
        level = (np.cumsum(sizes) - sizes / 2) / sizes.sum() * num_blocks
    block = np.minimum(level.astype(int), num_blocks - 1)
    # Leave no block empty: block g starts at class g or later, and g classes from the end
    # at the latest.
    cuts = np.searchsorted(block, np.arange(1, num_blocks))
    for g in range(num_blocks - 1):
        cuts[g] = max(cuts[g], cuts[g - 1] + 1 if g else 1)
    for g in reversed(range(num_blocks - 1)):
        cuts[g] = min(cuts[g], len(order) - (num_blocks - 1 - g))
    return np.split(order, cuts)


def largest_remainder(shares: np.ndarray, total: int) -> np.ndarray:
    """Rounds `total * shares / sum shares` to integers >= 1 that add up to `total`.

    Args:
      shares: float `[G]`, positive.
      total: at least G.

    >>> largest_remainder(np.array([5.0, 3.0, 0.1]), 8).tolist()
    [4, 3, 1]
    """
    exact = total * shares / shares.sum()
    quotas = np.maximum(np.floor(exact).astype(np.int64), 1)
    while quotas.sum() < total:
        quotas[np.argmax(exact - quotas)] += 1
    while quotas.sum() > total:
        quotas[np.argmin(np.where(quotas > 1, exact - quotas, np.inf))] -= 1
    return quotas


class B3RS(LabelPlan):
    """Block-based relatively balanced batches: every batch has the same block quotas.

    Classes are sorted by count and cut into blocks; block `g` gets a fixed number of slots
    in every batch, the largest-remainder rounding of

        B * m_g / sum m,    m_g = sum over classes c of block g of n_c^(1 - balance),

    at least 1. Inside a block the slots go round its classes, inside a class round its
    images, both in freshly shuffled cycles: over an epoch two classes of a block differ by
    at most one draw, and so do two images of a class. A batch repeats an image only if its
    class has fewer images than slots.

    Args:
      labels: int `[N]`.
      batch_size: images per batch, at least `num_blocks`.
      num_blocks: number of blocks.
      balance: 0 instance-balanced ... 1 class-balanced block quotas.
      partition: how classes are cut into blocks, see `partition_classes`.
      seed: integer >= 0.

    Source: reconstruction of B3RS (arXiv 2112.05958; "GRBS" in arXiv 2408.17197): groups of
    classes and a sampling rule per group are stated there; the rule itself is ours.

    >>> plan = B3RS(np.repeat([0, 1, 2, 3], [40, 20, 10, 5]), 10, num_blocks=2, seed=0)
    >>> plan.quotas.tolist(), plan[0].shape
    ([7, 3], (10,))
    """

    tag = "B3RS"

    def __init__(
        self,
        labels: np.ndarray | LabelIndex,
        batch_size: int,
        *,
        num_blocks: int = 5,
        balance: float = 0.5,
        partition: str = "classes",
        seed: int,
    ):
        super().__init__(labels, batch_size, seed=seed)
        require(0 <= balance <= 1, "balance", balance, "a number from 0 to 1")
        self.blocks = partition_classes(self.counts, num_blocks, partition)
        self.num_blocks = len(self.blocks)
        enough = self.batch_size >= self.num_blocks
        words = f"at least one slot for each of the {num_blocks} blocks"
        require(enough, "batch_size", batch_size, words)
        self.balance, self.partition = float(balance), partition
        mass = [(self.counts[b].astype(float) ** (1 - balance)).sum() for b in self.blocks]
        self.quotas = largest_remainder(np.array(mass), self.batch_size)

    def __repr__(self) -> str:
        return self._describe(
            num_blocks=self.num_blocks, balance=self.balance, partition=self.partition
        )

    def epoch(self, epoch: int) -> np.ndarray:
        """Indices of an epoch, int64 `[steps_per_epoch, batch_size]`."""
        bits = self._bits(epoch)
        steps, batch = self.steps_per_epoch, self.batch_size
        total = steps * batch
        kind = narrow(total + batch * max(map(len, self.blocks)))
        # Slots are shuffled within each batch, so that any slice of it (a device's, a
        # host's) holds all blocks on average.
        place = batch_shuffle(bits, steps, batch)
        slots, draws = [], []
        offset = 0
        # Blocks are contiguous in the index's order of classes, so block after block is
        # class after class.
        for block, quota in zip(self.blocks, self.quotas.tolist(), strict=True):
            times = cyclic_times(bits, len(block), steps * quota)
            slot = (times // quota).astype(kind, copy=False)
            slot *= batch - quota
            slot += times
            slot += offset
            slot[times[:, -1] >= steps * quota, -1] = total  # behind the epoch's end: no slot
            slots.append(slot.ravel())
            draws.append(np.full(len(block), times.shape[1]))
            offset += quota
        where = place.take(np.concatenate(slots).astype(np.int64)).astype(np.int64)
        out = np.empty(total + 1, np.int64)
        self._fill(out, bits, where, np.concatenate(draws))
        return out[:-1].reshape(steps, batch)


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

    >>> from ltjax.data.samplers import PowerSampler
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
