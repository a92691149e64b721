"""Whitening by the covariance within classes, of a whole data set that may not fit into memory.

Where features are given and labels are known, the covariance need not be estimated from batches,
and the spread *between* classes, which a classifier lives on, need not be divided away. Everything
here is NumPy, and reads the rows in chunks.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csc_array

# Rows, the numbers of their classes, and their weights.
Chunk = tuple[np.ndarray, np.ndarray, np.ndarray]
Chunks = Callable[[], Iterator[Chunk]]
# What is left of the variance of a feature that is constant up to rounding, as a share of its mean
# square.
CONSTANT = 1e-12


class ClassMoments(NamedTuple):
    """First and second moments of rows by class, float64.

    Attributes:
      weight: sum of the weights of each class's rows, `[C]`; without weights their number.
      mean: of each class, `[C, D]`; 0 for a class without rows.
      within: scatter within the classes, `sum_i w_i (x_i - m_y)(x_i - m_y)^T`, `[D, D]`.
    """

    weight: np.ndarray
    mean: np.ndarray
    within: np.ndarray

    @property
    def center(self) -> np.ndarray:
        """Mean of all rows, `[D]`."""
        center: np.ndarray = self.weight @ self.mean / self.weight.sum()
        return center

    @property
    def between(self) -> np.ndarray:
        """Covariance of the class means, weighted as the rows are, `[D, D]`."""
        apart = self.mean - self.center
        weighted = apart * (self.weight / self.weight.sum())[:, None]
        between: np.ndarray = weighted.T @ apart
        return between

    def join(self, other: "ClassMoments") -> "ClassMoments":
        """The moments of both sets of rows together.

            within = within_a + within_b + sum_c (w_a w_b / (w_a + w_b)) d_c d_c^T

        `d_c` is the difference of the two means of class `c`.

        Args:
          other: of other rows, of the same classes.

        Returns:
          The moments of all rows.

        Source: Chan, Golub and LeVeque, Algorithms for computing the sample variance (The American
        Statistician, 1983), https://doi.org/10.1080/00031305.1983.10483115, eq. 2.1, by class.

        >>> one = ClassMoments(np.ones(1), np.zeros((1, 1)), np.zeros((1, 1)))
        >>> both = one.join(one._replace(mean=np.full((1, 1), 2.0)))
        >>> both.mean.tolist(), both.within.tolist()
        ([[1.0]], [[2.0]])
        """
        weight = self.weight + other.weight
        share = other.weight / np.where(weight > 0, weight, 1)
        step = other.mean - self.mean
        scatter = (step * (self.weight * share)[:, None]).T @ step
        mean = self.mean + share[:, None] * step
        return ClassMoments(weight, mean, self.within + other.within + scatter)

    def without(self, other: "ClassMoments") -> "ClassMoments":
        """The moments of the rows that are left when some are taken away: `join` undone.

        Args:
          other: of some of the rows, of the same classes.

        Returns:
          The moments of the others, to the rounding of a difference.

        Source: ours.

        >>> one = ClassMoments(np.ones(1), np.zeros((1, 1)), np.zeros((1, 1)))
        >>> other = one._replace(mean=np.full((1, 1), 2.0))
        >>> left = one.join(other).without(other)
        >>> left.mean.tolist(), left.within.tolist()
        ([[0.0]], [[0.0]])
        """
        weight = self.weight - other.weight
        known = np.where(weight > 0, weight, 1)
        mean = self.mean + (other.weight / known)[:, None] * (self.mean - other.mean)
        mean[weight <= 0] = 0.0
        step = other.mean - mean
        scatter = (step * (weight * other.weight / np.maximum(self.weight, known))[:, None]).T
        return ClassMoments(weight, mean, self.within - other.within - scatter @ step)


def class_moments(chunks: Chunks, num_classes: int) -> ClassMoments:
    """Moments by class of rows that come in chunks.

    The rows are read twice, first for the means and then for the scatter about them, so that
    classes far apart cost no digits.

    Args:
      chunks: gives the rows `[N_i, D]`, their classes and their weights `[N_i]`, anew at every
        call; products are computed in the dtype of the rows, float32 or wider.
      num_classes: C.

    Returns:
      The moments.

    Source: ours.

    >>> rows = np.array([[0.0], [2.0], [7.0]]), np.array([0, 0, 1]), np.ones(3)
    >>> found = class_moments(lambda: iter([rows]), 2)
    >>> found.weight.tolist(), found.mean.tolist(), found.within.tolist()
    ([2.0, 1.0], [[1.0], [7.0]], [[2.0]])
    """
    weight, sums = np.zeros(num_classes), np.zeros((num_classes, 1))
    origin: np.ndarray | None = None
    for rows, labels, weights in chunks():
        if origin is None:
            origin = rows.mean(axis=0)
            sums = np.zeros((num_classes, rows.shape[1]))
        sums += _by_class(labels, weights, num_classes, rows.dtype) @ (rows - origin)
        weight += np.bincount(labels, weights, minlength=num_classes)
    assert origin is not None, "at least one row"
    known = weight > 0
    mean = np.where(known[:, None], origin + sums / np.where(known, weight, 1)[:, None], 0.0)
    within, near = np.zeros((len(origin), len(origin))), mean.astype(origin.dtype)
    for rows, labels, weights in chunks():
        apart = rows - near[labels]
        apart *= np.sqrt(weights).astype(rows.dtype)[:, None]
        within += apart.T @ apart
    return ClassMoments(weight, mean, within)


def _by_class(labels: np.ndarray, weights: np.ndarray, num_classes: int, dtype: Any) -> csc_array:
    """The matrix `[C, N]` whose product with rows is their weighted sum by class."""
    each = np.arange(len(labels) + 1)
    return csc_array((weights.astype(dtype), labels, each), shape=(num_classes, len(labels)))


class Basis(NamedTuple):
    """Coordinates in which the covariance within classes is diagonal.

        r = (x - m) A,    A = diag(s)^(-1) U,    S_w = diag(s) U diag(l) U^T diag(s)

    `s` are the standard deviations of the features, so that `U diag(l) U^T` is in their units. A
    ridge only changes `l`, so one product serves every shrinkage: whitening is a division by
    column, `z = r / scale(a)`. Up to the rotation `U`, which no linear or cosine classifier that
    starts at random or at 0 can tell, `z` is ZCA of the standardized features.

    Attributes:
      center: `m`, `[D]`.
      rotation: `A`, `[D, D]`.
      variances: `l`, `[D]`.
      spread: covariance of the class means in these coordinates, `[D, D]`.
    """

    center: np.ndarray
    rotation: np.ndarray
    variances: np.ndarray
    spread: np.ndarray

    def coordinates(self, rows: np.ndarray, *, overwrite: bool = False) -> np.ndarray:
        """`r` of rows.

        Args:
          rows: `[N, D]`, any float dtype.
          overwrite: whether the rows may be changed, which spares a copy of them.

        Returns:
          float32 `[N, D]`.
        """
        wide = rows if rows.dtype.itemsize > 2 else rows.astype(np.float32)
        center = self.center.astype(wide.dtype, copy=False)
        centered = np.subtract(wide, center, out=wide if overwrite else None)
        rotation = self.rotation.astype(np.float32, copy=False)
        found: np.ndarray = centered.astype(np.float32, copy=False) @ rotation
        return found

    def single(self) -> "Basis":
        """The same with a rotation in float32, for many small products."""
        return self._replace(rotation=self.rotation.astype(np.float32))

    def inverse(self) -> np.ndarray:
        """The inverse of the rotation, `[D, D]`.

        A^(-1) = U^T diag(s),    1 / s_d^2 = sum_j A_dj^2
        """
        inverse: np.ndarray = self.rotation.T / np.sum(self.rotation**2, axis=1)
        return inverse

    def scales(self, shrinkages: np.ndarray) -> np.ndarray:
        """What `r` is divided by.

            scale(a) = sqrt((1 - a) l + a mean(l))

        Args:
          shrinkages: `a` in (0, 1], `[K]`.

        Returns:
          float32 `[K, D]`.
        """
        a = np.asarray(shrinkages, np.float64)[:, None]
        shrunk = (1 - a) * self.variances + a * self.variances.mean()
        scales: np.ndarray = np.sqrt(np.where(shrunk > 0, shrunk, 1)).astype(np.float32)
        return scales  # 1 where all rows are equal

    def largest_variance(self, scale: np.ndarray) -> float:
        """The largest variance of `z`, over all directions and with the class means' spread.

        Args:
          scale: `[D]`, as `scales` gives it.

        Returns:
          The largest eigenvalue of the total covariance, to a few percent.
        """
        total = (self.spread + np.diag(self.variances)) / np.outer(scale, scale)
        vector = np.random.default_rng(0).normal(size=len(total))
        for _ in range(30):
            vector = total @ (vector / np.linalg.norm(vector))
        return float(np.linalg.norm(vector))


def within_class_basis(moments: ClassMoments) -> Basis:
    """The basis of some moments.

    A feature that is constant has the standard deviation 1. Where no class varies, as if each had
    one row, the covariance of the class means takes the place of that within classes.

    Args:
      moments: of the rows.

    Returns:
      The basis, float64.

    Source: Fisher's linear discriminant; Kessy, Lewin and Strimmer, Optimal whitening and
    decorrelation (The American Statistician, 2018), https://arxiv.org/abs/1512.00809, for
    standardizing first; ours for the rest.

    >>> moments = ClassMoments(np.ones(2), np.array([[0.0], [4.0]]), np.array([[10.0]]))
    >>> basis = within_class_basis(moments)
    >>> basis.center.tolist(), np.round(basis.variances, 3).tolist()
    ([2.0], [0.556])
    """
    within, between, center = moments.within / moments.weight.sum(), moments.between, moments.center
    variance = np.diag(within) + np.diag(between)
    constant = variance <= CONSTANT * (center**2 + variance)
    deviation = np.sqrt(np.where(constant, 1.0, variance))
    unit = np.outer(deviation, deviation)
    within, between = within / unit, between / unit
    flat = np.trace(within) <= CONSTANT * np.trace(between)
    variances, vectors = np.linalg.eigh(between if flat else within)
    return Basis(
        center,
        vectors / deviation[:, None],
        np.maximum(variances, 0.0),
        vectors.T @ between @ vectors,
    )
