"""Labels sorted by class, and what the samplers share that draw from them."""

import abc
import warnings
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ltjax.errors import Option, check_labels, one_of, require, require_integer
from ltjax.samplers.base import BatchSampler
from ltjax.samplers.shuffle import Bits, bit_stream, group_order
from ltjax.samplers.without_replacement import fill_images

EPOCH_SIZE = Option(
    "images",
    one_of("images", "largest_class"),
    "class_balanced, class_aware: steps of an epoch; images: ceil(N / batch_size); largest_class: "
    "ceil(n_max C / batch_size), so that it draws every image of the largest class",
)


class LabelIndex(NamedTuple):
    """Labels sorted by class, the classes by their number of images.

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
    """Sorts labels by class; several samplers of the same labels can share the index.

    A class without images is allowed: a warning names it, and no sampler draws it.

    Args:
      labels: int `[N]`, >= 0.
      class_names: one name per class; by default classes are named by their numbers.

    Returns:
      The labels, sorted.

    Raises:
      InputError: empty, negative or non-integer labels, or not one name per class.

    Source: ours.

    >>> index_labels(np.array([1, 0, 1])).by_class.tolist()
    [0, 2, 1]
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
            f"no image of {noun} {', '.join(names)}{more}; no sampler draws from it", stacklevel=2
        )
    order = np.argsort(-counts, kind="stable")[: len(counts) - len(empty)]
    rank = np.zeros(len(counts), np.int64)
    rank[order] = np.arange(len(order))
    size = len(labels)
    by_class = group_order(rank[labels], np.arange(size, dtype=np.uint64), size)
    return LabelIndex(labels, counts, order, counts[order], by_class)


class LabelSampler(BatchSampler):
    """Base class of the samplers that draw classes of labeled images.

    An epoch has `ceil(N / batch_size)` steps or, with `epoch_size="largest_class"`,
    `ceil(n_max C / batch_size)`, where C counts the classes that have images.

    Attributes:
      tag: names the kind of sampler in its random stream and its fingerprint. It is a literal, not
        the class's name, since renaming a class must not change what a stored run draws.

    Args:
      labels: int `[N]`, or the index that `index_labels` gives.
      batch_size: images per batch, >= 1.
      seed: integer >= 0.
      epoch_size: "images" or "largest_class".

    Raises:
      InputError: invalid labels, or a batch size, seed or epoch size out of range.

    Source: ours; the epoch of the largest class is `num_samples` in
    https://github.com/facebookresearch/classifier-balancing, data/ClassAwareSampler.py.
    """

    tag: str

    def __init__(
        self,
        labels: np.ndarray | LabelIndex,
        batch_size: int,
        *,
        seed: int,
        epoch_size: str = EPOCH_SIZE.default,
    ):
        self.index = labels if isinstance(labels, LabelIndex) else index_labels(labels)
        self.labels, self.counts = self.index.labels, self.index.counts
        batch_size = require_integer("batch_size", batch_size, 1)
        EPOCH_SIZE.check("epoch_size", epoch_size)
        self.epoch_size, total = epoch_size, len(self.labels)
        if epoch_size == "largest_class":
            total = int(self.index.sizes[0]) * len(self.index.sizes)
        super().__init__(batch_size, -(-total // batch_size))
        self.seed = require_integer("seed", seed, 0)

    def class_prior(self, *, epoch: int = 0, embedded_weight: float | None = None) -> np.ndarray:
        """The class distribution of the batches; see `BatchSampler.class_prior`.

        Args:
          epoch: see there.
          embedded_weight: of no effect, since no slot is embedded.

        Returns:
          float64 `[C]`, of sum 1.

        Raises:
          InputError: `epoch` is negative or not an integer.
        """
        drawn = self._expected_draws(require_integer("epoch", epoch, 0))
        prior = np.zeros(len(self.counts))
        prior[self.index.order] = drawn / drawn.sum()
        return prior

    @abc.abstractmethod
    def _expected_draws(self, epoch: int) -> np.ndarray:
        """Expected draws of the classes that have images, in any unit.

        Args:
          epoch: number of the epoch, >= 0.

        Returns:
          float64 `[K]`, most images first.
        """

    def _describe(self, **arguments: object) -> str:
        known: dict[str, object] = {"images": len(self.labels), "batch_size": self.batch_size}
        if self.epoch_size != EPOCH_SIZE.default:  # which older fingerprints do not name
            known["epoch_size"] = self.epoch_size
        items = {**known, **arguments, "seed": self.seed}.items()
        return f"{self.tag}({', '.join(f'{k}={v!r}' for k, v in items)})"

    def _bits(self, epoch: int) -> Bits:
        """Random bits of an epoch; samplers of different kinds with one seed are independent."""
        kind = zlib.crc32(self.tag.encode())
        return bit_stream(self.seed, kind, require_integer("epoch", epoch, 0))

    def _fill(self, out: np.ndarray, bits: Bits, slots: np.ndarray, draws: np.ndarray) -> None:
        """Puts images into class slots, see `fill_images`."""
        sizes, by_class = self.index.sizes, self.index.by_class
        fill_images(out, bits, slots, draws, sizes, by_class, self.batch_size)
