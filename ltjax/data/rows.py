"""Given features as a source: rows of an array in memory, or in a file that is mapped into it."""

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ltjax.data.labeled import Labeled
from ltjax.errors import require

# Rows that are read at a time where all of them are.
CHUNK = 8192


@dataclass(frozen=True)
class FeatureSource(Labeled):
    """Features of examples, such as embeddings of another network.

    A subset shares the array, so that neither thinning nor holding out copies it.

    Attributes:
      features: any real dtype, `[M, D]`; may be a memory map.
      positions: int64 `[N]`, the rows of `features` that are the examples.
      labels: int64 `[N]`, classes `0 ... len(class_names) - 1`.
      class_names: one name per class.
      order: int64 `[N]`, place in the data set's official order; None is the order here.
    """

    features: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    order: np.ndarray | None = None

    def __post_init__(self):
        kind = self.features.dtype.kind
        require(
            self.features.ndim == 2 and kind in "fiu" and self.features.shape[1] > 0,
            "features",
            f"{self.features.dtype} {self.features.shape}",
            "numbers [N, D]",
        )
        require(
            len(self.labels) == len(self.positions),
            "len(labels)",
            len(self.labels),
            f"one label for each of the {len(self.positions)} rows",
        )
        self._check()

    @property
    def image_shape(self) -> tuple[int, ...]:
        """`(D,)`: features take the place of images."""
        return self.features.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        """What rows are read as: float16 stays, everything else becomes float32."""
        half = self.features.dtype == np.float16
        return np.dtype(np.float16 if half else np.float32)

    def subset(self, indices: np.ndarray) -> "FeatureSource":
        """The source of some of the examples.

        Args:
          indices: int `[M]`, of the examples, in the order that they are to have.

        Returns:
          A source of M examples with the same classes.
        """
        order = None if self.order is None else self.order[indices]
        return FeatureSource(
            self.features, self.positions[indices], self.labels[indices], self.class_names, order
        )

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Reads some rows.

        Args:
          indices: int `[M]`, of the examples.

        Returns:
          `[M, D]` in `dtype`.
        """
        return np.asarray(self.features[self.positions[indices]], self.dtype)

    def chunks(self) -> Iterator[np.ndarray]:
        """All rows in order, some thousands at a time.

        Yields:
          `[M, D]` in `dtype`.
        """
        for start in range(0, len(self), CHUNK):
            yield self.rows(np.arange(start, min(start + CHUNK, len(self))))

    def array(self) -> np.ndarray:
        """All rows as one array, to be placed on a device.

        Returns:
          `[N, D]` in `dtype`; no copy where the file's rows are all taken as they are.
        """
        whole = np.array_equal(self.positions, np.arange(len(self.features)))
        if whole and self.features.dtype == self.dtype:
            return np.asarray(self.features)
        found = np.empty((len(self), *self.image_shape), self.dtype)
        start = 0
        for rows in self.chunks():
            found[start : start + len(rows)] = rows
            start += len(rows)
        return found

    def fingerprint(self) -> str:
        """A short hash of the rows and labels.

        Returns:
          16 hexadecimal digits.
        """
        return self._fingerprint

    @functools.cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"features {self.dtype} {self.image_shape}".encode())
        digest.update(self.labels.astype("<i8").tobytes())
        for rows in self.chunks():
            digest.update(np.ascontiguousarray(rows).data)
        return digest.hexdigest()[:16]

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of every feature.

        A feature that is constant up to the rounding of its dtype has the standard deviation 1, so
        that standardizing makes it 0.

        Returns:
          Both, float32 `[D]`.
        """
        total = np.zeros(self.image_shape)
        for rows in self.chunks():
            total += rows.sum(axis=0, dtype=np.float64)
        mean = total / len(self)
        squares = np.zeros(self.image_shape)
        for rows in self.chunks():
            squares += np.square(rows.astype(np.float64) - mean).sum(axis=0)
        std = np.sqrt(squares / len(self))
        rounding = 4 * np.finfo(self.dtype).eps * np.abs(mean)
        std = np.where(std > rounding, std, 1.0)
        return mean.astype(np.float32), std.astype(np.float32)
