"""B3RS, the Block-based Relatively Balanced Batch Sampler.

A reconstruction: the equations of the sampler are not public. See docs/method.md.
"""

import numpy as np

from ltjax.errors import Option, integer, number, one_of, require, require_integer
from ltjax.samplers.labels import LabelIndex, LabelSampler
from ltjax.samplers.shuffle import batch_shuffle, cyclic_times, narrow

PARTITIONS = ("classes", "log_count", "images")

NUM_BLOCKS = Option(5, integer(1, 10**6), "B3RS: number of blocks of classes")
BALANCE = Option(0.5, number(0, 1), "B3RS: 0 is instance-balanced, 1 class-balanced")
PARTITION = Option("classes", one_of(*PARTITIONS), "B3RS: how classes are cut into blocks")


def partition_classes(
    counts: np.ndarray, num_blocks: int, partition: str = PARTITION.default
) -> list[np.ndarray]:
    """Cuts the classes, sorted by descending count, into contiguous blocks.

    Args:
      counts: int `[C]`, images of each class; classes without images are left out.
      num_blocks: number of blocks, from 1 to the number of classes with images.
      partition: "classes" gives blocks of equally many classes (up to one), "log_count"
        cuts the range of `log n_c` into equal intervals, "images" gives blocks of about
        equally many images. Every block gets at least one class.

    Returns:
      The classes of each block, one int array per block; frequent classes come first.

    Raises:
      InputError: more blocks than classes with images, or an unknown partition.

    Source: B3RS is a reconstruction (https://arxiv.org/abs/2112.05958,
    https://arxiv.org/abs/2408.17197); the partitions are ours.

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
    PARTITION.check("partition", partition)
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

    Every entry gets the whole part of its share; the rest goes to the largest remainders.

    Args:
      shares: float `[G]`, positive.
      total: the sum of the result, at least G.

    Returns:
      int64 `[G]`.

    Source: the method of largest remainders, https://en.wikipedia.org/wiki/Quota_method; the
    minimum of 1 is ours.

    >>> largest_remainder(np.array([5.0, 3.0, 0.1]), 8).tolist()
    [4, 3, 1]
    """
    exact = total * shares / shares.sum()
    quotas: np.ndarray = np.maximum(np.floor(exact).astype(np.int64), 1)
    while quotas.sum() < total:
        quotas[np.argmax(exact - quotas)] += 1
    while quotas.sum() > total:
        quotas[np.argmin(np.where(quotas > 1, exact - quotas, np.inf))] -= 1
    return quotas


class B3RS(LabelSampler):
    """Block-based relatively balanced batches: every batch has the same number of slots per block.

    Classes are sorted by count and cut into blocks. In every batch, block `g` gets a fixed quota
    of slots, at least 1: the largest-remainder rounding of

        B * m_g / sum m,    m_g = sum over classes c of block g of n_c^(1 - balance)

    Within a block, the slots cycle through its classes, and within a class through its images, both
    in an order that is shuffled anew for every cycle. Over an epoch, two classes of a block, or two
    images of a class, therefore differ by at most one draw. A batch repeats an image only if its
    class has fewer images than slots in the batch. The S in the name stands for Sampler.

    Args:
      labels: int `[N]`, or the index that `index_labels` gives.
      batch_size: images per batch, at least `num_blocks`.
      num_blocks: number of blocks, at most the number of classes with images.
      balance: from 0 (quotas in proportion to the images of the blocks, instance-balanced) to 1
        (in proportion to their classes, class-balanced).
      partition: how classes are cut into blocks, see `partition_classes`.
      seed: integer >= 0.

    Attributes:
      blocks: int arrays, the classes of each block; frequent classes come first.
      quotas: int64 `[num_blocks]`, slots of each block in every batch.

    Raises:
      InputError: an argument out of range, or more blocks than classes with images or than slots
        in a batch.

    Source: reconstruction of B3RS (https://arxiv.org/abs/2112.05958; "GRBS" in
    https://arxiv.org/abs/2408.17197): the papers state groups of classes and a sampling rule per
    group; the rule itself is ours.

    >>> sampler = B3RS(np.repeat([0, 1, 2, 3], [40, 20, 10, 5]), 10, num_blocks=2, seed=0)
    >>> sampler.quotas.tolist(), len(sampler), sampler[0].shape
    ([7, 3], 8, (10,))
    """

    tag = "B3RS"

    def __init__(
        self,
        labels: np.ndarray | LabelIndex,
        batch_size: int,
        *,
        num_blocks: int = NUM_BLOCKS.default,
        balance: float = BALANCE.default,
        partition: str = PARTITION.default,
        seed: int,
    ):
        super().__init__(labels, batch_size, seed=seed)
        BALANCE.check("balance", balance)
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

    def _expected_draws(self, epoch: int) -> np.ndarray:
        # Blocks are contiguous in the index's order of classes.
        sizes = np.array([len(block) for block in self.blocks])
        return np.repeat(self.quotas / sizes, sizes)

    def epoch(self, epoch: int) -> np.ndarray:
        """Draws an epoch; see `BatchSampler.epoch`.

        Args:
          epoch: number of the epoch, >= 0.

        Returns:
          Image indices, int64 `[steps_per_epoch, batch_size]`.

        Raises:
          InputError: `epoch` is negative or not an integer.
        """
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
