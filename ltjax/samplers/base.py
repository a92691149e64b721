"""Batch plans: which images make up which batch, as NumPy functions of (seed, epoch).

A plan is stateless: `plan.epoch(e)` is the whole epoch and `plan[step]` one batch, both
functions of the seed and the position alone, equal on every host. So a run resumes from
its step, and nothing of a sampler's state is ever stored. NumPy alone.
"""

import hashlib
import warnings
import zlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from ltjax.errors import InputError, check_labels, require, require_integer
from ltjax.samplers.shuffle import Bits, bit_stream, group_order
from ltjax.samplers.without_replacement import fill_images


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

    def shard(self, index: int, count: int) -> "BatchPlan":
        """The plan of host `index` of `count`: its slice of every batch."""
        ...

    def fingerprint(self) -> str:
        """Short hash of what the plan draws."""
        ...

    def __getitem__(self, step: int) -> np.ndarray:
        """Indices of one batch, int64 `[batch_size]`."""
        ...


class LabelIndex(NamedTuple):
    """Labels, sorted by class, the classes by their number of images.

    Attributes:
      labels: int64 `[N]`.
      counts: int64 `[C]`, images of each class.
      order: int64 `[K]`, classes that have images, most images first.
      sizes: int64 `[K]`, their images.
      by_class: int64 `[N]`, image indices, class after class in this order.
    """

    labels: np.ndarray
    counts: np.ndarray
    order: np.ndarray
    sizes: np.ndarray
    by_class: np.ndarray


def index_labels(labels: np.ndarray, class_names: Sequence[str] | None = None) -> LabelIndex:
    """Sorts labels by class; several plans of the same labels can share the index.

    Args:
      labels: int `[N]`, >= 0.
      class_names: one for each class; by default classes are named by their number.

    Raises:
      InputError: empty, negative or non-integer labels, or fewer names than classes.

    A class without images is allowed: a warning names it, and no plan draws it.
    """
    labels = check_labels(labels)
    counts = np.bincount(labels, minlength=len(class_names) if class_names else 0)
    if class_names is not None:
        words = f"one name for each of the {len(counts)} classes"
        require(len(class_names) == len(counts), "len(class_names)", len(class_names), words)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        names = [class_names[c] if class_names else str(c) for c in empty[:5]]
        more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        noun = "class" if len(empty) == 1 else "classes"
        warnings.warn(
            f"no image of {noun} {', '.join(names)}{more}; no plan draws from it", stacklevel=2
        )
    order = np.argsort(-counts, kind="stable")[: len(counts) - len(empty)]
    rank = np.zeros(len(counts), np.int64)
    rank[order] = np.arange(len(order))
    size = len(labels)
    by_class = group_order(rank[labels], np.arange(size, dtype=np.uint64), size)
    return LabelIndex(labels, counts, order, counts[order], by_class)


class EpochPlan:
    """Shared shell of the plans: everything that follows from `epoch`.

    Subclasses define `epoch` and `__repr__`, which names every parameter.
    """

    batch_size: int
    steps_per_epoch: int
    _cached: tuple[int, np.ndarray] | None = None
    _fingerprint: str | None = None

    def epoch(self, epoch: int) -> np.ndarray:
        """Indices of an epoch, int64 `[steps_per_epoch, batch_size]`."""
        raise InputError(f"{type(self).__name__} does not define epoch()")

    def __getitem__(self, step: int) -> np.ndarray:
        """Indices of one batch, int64 `[batch_size]`."""
        step = require_integer("step", step, 0)
        return self.rows(step, step + 1)[0]

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Batches `start ... stop - 1`, int64 `[stop - start, batch_size]`, not writeable.

        The epoch last used is kept, so that reading on costs one `epoch()` per epoch.
        """
        size, parts = self.steps_per_epoch, []
        for epoch in range(start // size, -(-stop // size)):
            cached = self._cached
            if cached is None or cached[0] != epoch:
                cached = (epoch, self.epoch(epoch))
                cached[1].flags.writeable = False
                self._cached = cached
            parts.append(cached[1][max(start - epoch * size, 0) : stop - epoch * size])
        if not parts:
            return np.zeros((0, self.batch_size), np.int64)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def flags(self, step: int) -> np.ndarray:
        """Bool `[batch_size]`: no slot of a plain plan is embedded."""
        return np.zeros(self.batch_size, bool)

    def shard(self, index: int, count: int) -> "Shard":
        """The plan of host `index` of `count`: its slice of every batch.

        Slices are contiguous: those of all hosts, joined in order, are the global batch.

        Raises:
          InputError: `count` does not divide the batch, or `index` is not below it.
        """
        return Shard(self, index, count)

    def fingerprint(self) -> str:
        """Short hash of the parameters and of the first epoch's indices.

        It changes with the seed, the labels, and the code that draws.
        """
        if self._fingerprint is None:
            digest = hashlib.sha256(repr(self).encode())
            digest.update(self.epoch(0).astype("<i8").tobytes())
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint


class Shard(EpochPlan):
    """One host's slice of a plan; made by `plan.shard`."""

    def __init__(self, plan: EpochPlan, index: int, count: int):
        count = require_integer("shard count", count, 1)
        divides = plan.batch_size % count == 0
        require(divides, "shard count", count, f"a divisor of the batch size {plan.batch_size}")
        index = require_integer("shard index", index, 0)
        require(index < count, "shard index", index, f"an integer from 0 to {count - 1}")
        self.plan, self.index, self.count = plan, index, count
        self.batch_size = plan.batch_size // count
        self.steps_per_epoch = plan.steps_per_epoch
        self._slice = slice(index * self.batch_size, (index + 1) * self.batch_size)

    def __repr__(self) -> str:
        return f"{self.plan!r}.shard({self.index}, {self.count})"

    def epoch(self, epoch: int) -> np.ndarray:
        return np.ascontiguousarray(self.plan.epoch(epoch)[:, self._slice])

    def flags(self, step: int) -> np.ndarray:
        """Bool `[batch_size]`, this host's part of the plan's flags."""
        return self.plan.flags(step)[self._slice]


class LabelPlan(EpochPlan):
    """Shared shell of the plans that draw classes of labelled images.

    Attributes:
      tag: names the kind of plan in its random stream and its fingerprint. A literal, not the
        class's name: renaming a class must not change what a stored run draws.
    """

    tag: str

    def __init__(self, labels: np.ndarray | LabelIndex, batch_size: int, *, seed: int):
        self.index = labels if isinstance(labels, LabelIndex) else index_labels(labels)
        self.labels, self.counts = self.index.labels, self.index.counts
        self.batch_size = require_integer("batch_size", batch_size, 1)
        self.seed = require_integer("seed", seed, 0)
        self.steps_per_epoch = -(-len(self.labels) // self.batch_size)

    def _describe(self, **parameters: object) -> str:
        known = {"images": len(self.labels), "batch_size": self.batch_size}
        items = {**known, **parameters, "seed": self.seed}.items()
        return f"{self.tag}({', '.join(f'{k}={v!r}' for k, v in items)})"

    def _bits(self, epoch: int) -> Bits:
        """Random bits of an epoch; plans of different kinds with one seed are independent."""
        kind = zlib.crc32(self.tag.encode())
        return bit_stream(self.seed, kind, require_integer("epoch", epoch, 0))

    def _fill(self, out: np.ndarray, bits: Bits, slots: np.ndarray, draws: np.ndarray) -> None:
        """Puts images into class slots, see `fill_images`."""
        sizes, by_class = self.index.sizes, self.index.by_class
        fill_images(out, bits, slots, draws, sizes, by_class, self.batch_size)
