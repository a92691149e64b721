"""Differences between methods with their uncertainty: dependent splits, one test set, many tests.

Runs of one protocol depend on each other, and in two ways. Where every seed splits one pool of
images (`Splits`), test and training images of two seeds overlap: the ordinary t-test takes them
for independent and finds differences where there are none. Where all runs share one test set
(`OneTest`), seeds are independent, but the images are a sample as well.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95


class Difference(NamedTuple):
    """A mean difference, its 95% CI, the p-value of "there is none", seeds, standard error."""

    mean: float
    low: float
    high: float
    p: float
    seeds: int
    error: float = 0.0


def difference(mean: float, variance: float, freedom: float, seeds: int) -> Difference:
    """A difference of known standard error, by Student's t.

    Args:
      mean: of the difference.
      variance: of that mean.
      freedom: degrees of freedom of the variance's estimate.
      seeds: number to report.

    Returns:
      mean ± t_{0.975} sqrt(variance), and the two-sided p-value.
    """
    error = float(np.sqrt(variance))
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, freedom)) if error else float(mean == 0)
    return Difference(mean, mean - half, mean + half, p, seeds, error)


def resampled(differences: np.ndarray, ratio: float) -> Difference:
    """The corrected resampled t-test, of differences that are paired by seed.

        t = mean / sqrt((1 / J + n_test / n_train) s^2),    J - 1 degrees of freedom

    Args:
      differences: float `[J]`, a value a seed; every seed splits the same pool anew.
      ratio: `n_test / n_train`, images of the pool that a split takes for testing over those that
        it leaves for training. 0 is the ordinary paired t-test.

    Source: Nadeau and Bengio, Inference for the Generalization Error (Machine Learning 52, 2003),
    https://doi.org/10.1023/A:1024068626366, equation 8.

    >>> found = resampled(np.array([0.01, 0.02, 0.03, 0.02]), 0.0)
    >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3)
    (0.02, 0.007, 0.033)
    >>> round(resampled(np.array([0.01, 0.02, 0.03, 0.02]), 0.25).low, 3)
    0.002
    """
    count = len(differences)
    variance = float(differences.var(ddof=1)) * (1 / count + ratio)
    return difference(float(differences.mean()), variance, count - 1, count)


def unpaired(first: np.ndarray, second: np.ndarray, images: np.ndarray | None = None) -> Difference:
    """Student's t-test of two independent samples of seeds, on one test set.

        variance = s^2 (1 / n + 1 / m) + s_d^2 / N

    The second term is the variance over bootstrap samples of the test images, in closed form. It
    counts the interaction of seeds and images twice, so the CI is a little too wide, as that of
    the bootstrap over both is. The degrees of freedom are Welch and Satterthwaite's.

    Args:
      first: float `[n]`, a value a seed.
      second: float `[m]`, a value a seed; `s^2` is pooled over both.
      images: float `[N]`, difference between the shares of seeds that classify a test image
        correctly, `s_d` its standard deviation within classes; None leaves the term out.

    Source: Student's t-test; Owen, The pigeonhole bootstrap (Annals of Applied Statistics 1,
    2007), https://doi.org/10.1214/07-AOAS122, for the sum of both terms.

    >>> found = unpaired(np.array([0.5, 0.52, 0.51]), np.array([0.47, 0.49, 0.48]))
    >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3)
    (0.03, 0.007, 0.053)
    """
    n, m = len(first), len(second)
    freedom: float = n + m - 2
    squares = (n - 1) * first.var(ddof=1) + (m - 1) * second.var(ddof=1)
    variance = seeds = float(squares) / freedom * (1 / n + 1 / m)
    if images is not None and len(images) > 1:
        over_images = float(images.var(ddof=1)) / len(images)
        variance = seeds + over_images
        parts = seeds**2 / freedom + over_images**2 / (len(images) - 1)
        freedom = variance**2 / parts if parts else freedom
    return difference(float(first.mean() - second.mean()), variance, freedom, min(n, m))


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for the number of tests, in the given order.

        adjusted_(i) = max over j <= i of min(1, (m - j + 1) p_(j)),    p_(1) <= ... <= p_(m)

    Of all tests whose adjusted value is below alpha, the probability that one or more is an error
    is at most alpha, however the tests depend on each other.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure (Scandinavian Journal of
    Statistics 6, 1979), https://www.jstor.org/stable/4615733.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, float)
    order = np.argsort(values, kind="stable")
    scaled = np.minimum(1.0, values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty(len(values))
    adjusted[order] = np.maximum.accumulate(scaled)
    return [float(x) for x in adjusted]


class Splits(NamedTuple):
    """Every seed splits one pool of images.

    Attributes:
      ratio: `n_test / n_train` of a split, before the training part is thinned to a long tail.
    """

    ratio: float


class OneTest(NamedTuple):
    """All runs are tested on one set of images.

    Attributes:
      correct: by row and seed, bool `[C, n]`: which of a class's test images are classified
        correctly. Rows that are not in it are compared without the variance over images.
      groups: indices of the classes of `many`, `medium` and `few`.
    """

    correct: Mapping[str, Mapping[int, np.ndarray]] = {}
    groups: Mapping[str, np.ndarray] = {}

    def images(self, name: str, reference: str, column: str) -> np.ndarray | None:
        """Difference of two rows at every test image, centered within its class, `[N]`."""
        first, second = self.correct.get(name), self.correct.get(reference)
        if not first or not second or not (column == "accuracy" or column in self.groups):
            return None
        found = np.mean(list(first.values()), axis=0) - np.mean(list(second.values()), axis=0)
        if column in self.groups:
            found = found[self.groups[column]]
        return np.ravel(found - found.mean(axis=1, keepdims=True))


Design = Splits | OneTest
