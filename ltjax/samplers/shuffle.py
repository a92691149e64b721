"""The core of every sampler: shuffled cycles, computed on whole arrays.

A shuffle is one sort of packed integers, with random bits above and the shuffled number below.
NumPy sorts such keys with vector instructions, several times faster than it permutes. No two keys
are equal, so every sorting algorithm and every machine gives the same order. And the raw stream of
a bit generator, unlike the methods of `numpy.random.Generator`, is promised not to change between
NumPy versions (https://numpy.org/doc/stable/reference/random/compatibility.html). Two numbers whose
random bits agree keep their order: a pair is biased by less than 2^-21 with 32-bit keys, and by
far less with 64-bit keys.
"""

from collections.abc import Iterator

import numpy as np

Bits = np.random.SFC64


def bit_stream(seed: int, *position: int) -> Bits:
    """The stream of random bits that belongs to one position in a run.

    Args:
      seed: integer >= 0.
      *position: integers >= 0 that identify the position, such as the kind of sampler and the
        epoch.

    Returns:
      A bit generator; streams of different positions are independent.

    Source: `numpy.random.SeedSequence`,
    https://numpy.org/doc/stable/reference/random/parallel.html
    """
    return Bits(np.random.SeedSequence(seed, spawn_key=position))


def run_positions(lengths: np.ndarray) -> np.ndarray:
    """Consecutive numbers that start again at 0 for every run.

        [0 ... lengths[0] - 1, 0 ... lengths[1] - 1, ...]

    Args:
      lengths: int `[G]`, length of each run, >= 0.

    Returns:
      int64 `[sum lengths]`.

    Source: ours.

    >>> run_positions(np.array([2, 0, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    starts = np.cumsum(lengths) - lengths
    positions: np.ndarray = np.arange(int(lengths.sum())) - np.repeat(starts, lengths)
    return positions


def _low_bits(size: int) -> int:
    """A mask that holds `0 ... size - 1`."""
    return (1 << max(size - 1, 0).bit_length()) - 1


def narrow(size: int) -> type[np.signedinteger]:
    """The narrower of int32 and int64 that holds a number; int32 halves the memory traffic.

    Args:
      size: largest number to hold, >= 0.

    Returns:
      `np.int32` or `np.int64`.

    Source: ours.
    """
    return np.int32 if size < 2**31 else np.int64


def uniforms(bits: Bits, size: int) -> np.ndarray:
    """Random numbers, uniform in `[0, 1)`.

    Args:
      bits: random bits.
      size: how many numbers.

    Returns:
      float64 `[size]`.

    Source: ours; the numbers are multiples of `2^-53`, as those of `numpy.random.Generator`.
    """
    values: np.ndarray = (bits.random_raw(size) >> np.uint64(11)) * 2.0**-53
    return values


def shuffled_rows(bits: Bits, rows: int, width: int) -> np.ndarray:
    """Independent shuffles of `0 ... width - 1`, one per row.

    Args:
      bits: random bits.
      rows: number of shuffles.
      width: how many numbers are shuffled.

    Returns:
      int32 or int64 `[rows, width]`.

    Source: ours.

    >>> np.sort(shuffled_rows(bit_stream(0), 2, 3), axis=1).tolist()
    [[0, 1, 2], [0, 1, 2]]
    """
    dtype: type[np.unsignedinteger] = np.uint32 if width <= 2048 else np.uint64
    size = rows * width
    words = -(-size * dtype().itemsize // 8)
    keys = bits.random_raw(words).view(dtype)[:size].reshape(rows, width)
    mask = dtype(_low_bits(width))
    keys &= ~mask
    keys |= np.arange(width, dtype=dtype)
    keys.sort(axis=1)
    keys &= mask
    return keys.view(np.int32 if dtype is np.uint32 else np.int64)


def _similar(sizes: np.ndarray) -> Iterator[slice]:
    """Cuts descending sizes into runs that differ by less than a third."""
    start = 0
    while start < len(sizes):
        stop = int(np.searchsorted(-sizes, -0.7 * sizes[start], side="right"))
        yield slice(start, stop)
        start = stop


def shuffled_cycles(bits: Bits, sizes: np.ndarray, cycles: np.ndarray) -> np.ndarray:
    """Several cycles through the members of each of several groups, each cycle shuffled anew.

    Members are numbered consecutively: group 0 has `0 ... sizes[0] - 1`, group 1 the next ones.

    Args:
      bits: random bits.
      sizes: int `[G]`, members of each group, >= 1, descending.
      cycles: int `[G]`, number of cycles through each group.

    Returns:
      int32 or int64 `[sum sizes * cycles]`, group after group, cycle after cycle.

    Source: ours.
    """
    first = np.cumsum(sizes) - sizes
    kind = narrow(int(sizes.sum()))
    parts = []
    # Cycles of similar length are shuffled together, as rows of the longest one. Dropping the
    # numbers that a shorter cycle does not have leaves a shuffle of those that it has.
    for run in _similar(sizes):
        width = int(sizes[run.start])
        rows = shuffled_rows(bits, int(cycles[run].sum()), width)
        size = np.repeat(sizes[run].astype(rows.dtype), cycles[run])
        has = (rows < size[:, None]).ravel()
        rows = rows.astype(kind, copy=False)
        rows += np.repeat(first[run].astype(kind), cycles[run])[:, None]
        parts.append(np.compress(has, rows.ravel()))
    return np.concatenate(parts) if parts else np.zeros(0, kind)


def cyclic_times(bits: Bits, members: int, draws: int) -> np.ndarray:
    """When each member is drawn, if draws go through shuffled cycles of the members.

    Args:
      bits: random bits.
      members: number of members, >= 1.
      draws: number of draws.

    Returns:
      int32 or int64 `[members, cycles]`, the numbers of a member's draws, ascending along each row.
      Numbers `>= draws` are beyond the last draw; they can occur in the last column only.

    Source: ours.

    >>> cyclic_times(bit_stream(0), 1, 3).tolist()
    [[0, 1, 2]]
    """
    cycles = -(-draws // members)
    kind = narrow(cycles * members)
    times = shuffled_rows(bits, cycles, members).astype(kind, copy=False)
    times += np.arange(0, cycles * members, members, dtype=kind)[:, None]
    return np.ascontiguousarray(times.T)


def batch_shuffle(bits: Bits, steps: int, batch: int) -> np.ndarray:
    """Shuffles the slots within every batch of an epoch.

    Args:
      bits: random bits.
      steps: batches of the epoch.
      batch: slots of a batch.

    Returns:
      Where each slot goes, int32 or int64 `[steps * batch + 1]`. The last entry stands for
      "no slot" and stays in place.

    Source: ours.
    """
    total = steps * batch
    kind = narrow(total)
    place = np.empty(total + 1, kind)
    start = np.arange(0, total, batch, dtype=kind)[:, None]
    np.add(shuffled_rows(bits, steps, batch), start, out=place[:-1].reshape(steps, batch))
    place[-1] = total
    return place


def group_order(groups: np.ndarray, numbers: np.ndarray, size: int) -> np.ndarray:
    """The numbers sorted by group, and ascending within each group.

    Args:
      groups: int `[N]`, group of each number.
      numbers: uint64 `[N]`, distinct, below `size`.
      size: upper bound of the numbers.

    Returns:
      int64 `[N]`.

    Source: ours.

    >>> group_order(np.array([1, 0, 1]), np.array([2, 1, 0], np.uint64), 3).tolist()
    [1, 0, 2]
    """
    mask = _low_bits(size)
    keys = groups.astype(np.uint64)
    keys <<= np.uint64(mask.bit_length())
    keys |= numbers
    keys.sort()
    keys &= np.uint64(mask)
    return keys.view(np.int64)


def random_slots(bits: Bits, draws: np.ndarray) -> np.ndarray:
    """Deals the slots of an epoch to groups at random.

    Args:
      bits: random bits.
      draws: int `[G]`, number of slots of each group.

    Returns:
      int64 `[sum draws]`, slots of one group after the other, ascending within a group.

    Source: ours.
    """
    total = int(draws.sum())
    mask = np.uint64(_low_bits(total))
    keys = bits.random_raw(total)
    keys &= ~mask
    keys |= np.arange(total, dtype=np.uint64)
    keys.sort()
    keys &= mask
    return group_order(np.repeat(np.arange(len(draws)), draws), keys, total)


def apportion(bits: Bits, weights: np.ndarray, total: int) -> np.ndarray:
    """Splits draws among groups in proportion to weights, with unbiased random rounding.

        draws_c = floor(E_c + u) - floor(E_(c-1) + u),  E_c = total * sum_{k<=c} w_k / sum w

    With a single uniform `u`, each group gets its expectation rounded down or up, and on average
    exactly its expectation.

    Args:
      bits: random bits.
      weights: float `[G]`, >= 0, not all of them 0.
      total: draws of all groups together.

    Returns:
      int64 `[G]`, which sum to `total`.

    Source: systematic sampling, https://en.wikipedia.org/wiki/Systematic_sampling

    >>> apportion(bit_stream(0), np.array([3.0, 1.0]), 8).tolist()
    [6, 2]
    """
    edges = np.cumsum(weights)
    # Few bits, so that adding u to an integer edge never rounds up to the next one.
    shift = (int(bits.random_raw()) >> 44) * 2.0**-20
    edges = np.floor(total * edges / edges[-1] + shift).astype(np.int64)
    return np.diff(edges, prepend=0)
