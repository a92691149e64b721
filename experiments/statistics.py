"""Differences between methods with their uncertainty: dependent splits, one test set, many tests.

Differences are paired by seed: runs of one seed share the initialization, the order of the batches,
the split where it follows the seed, and, of second stages, the network. Beyond that, runs of one
protocol depend on each other in two ways. Where every seed splits one pool of images (`Splits`),
test and training images of two seeds overlap: the ordinary t-test takes them for independent and
finds differences where there are none. Where all runs share one test set (`OneTest`), the images
are a sample as well as the seeds.
"""

from collections.abc import Iterable, Mapping, Sequence
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


def paired(
    differences: np.ndarray, ratio: float = 0.0, images: np.ndarray | None = None
) -> Difference:
    """The t-test of differences that are paired by seed, corrected for what the seeds share.

        variance = (1 / J + n_test / n_train) s^2 + s_d^2 / N

    The second term of the bracket is that of the corrected resampled t-test, for seeds that split
    one pool. The last term is the variance over bootstrap samples of the images of one test set, in
    closed form. It counts the interaction of seeds and images twice, so the CI is a little too
    wide, as that of the bootstrap over both is. With it, the degrees of freedom, J - 1 else, are
    Welch and Satterthwaite's.

    Args:
      differences: float `[J]`, a value a seed.
      ratio: `n_test / n_train`, images of the pool that a split takes for testing over those that
        it does not, where every seed splits one pool anew. 0 and no `images` are the ordinary
        paired t-test.
      images: float `[N]`, difference between the shares of these seeds that classify a test image
        correctly, `s_d` its standard deviation within classes; None leaves the term out.

    Source: Nadeau and Bengio, Inference for the Generalization Error (Machine Learning 52, 2003),
    https://doi.org/10.1023/A:1024068626366, equation 8, for the ratio; Owen, The pigeonhole
    bootstrap (Annals of Applied Statistics 1, 2007), https://doi.org/10.1214/07-AOAS122, for the
    sum over seeds and images.

    >>> found = paired(np.array([0.01, 0.02, 0.03, 0.02]))
    >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3)
    (0.02, 0.007, 0.033)
    >>> round(paired(np.array([0.01, 0.02, 0.03, 0.02]), 0.25).low, 3)
    0.002
    """
    count = len(differences)
    freedom: float = count - 1
    variance = seeds = float(differences.var(ddof=1)) * (1 / count + ratio)
    if images is not None and len(images) > 1:
        over_images = float(images.var(ddof=1)) / len(images)
        variance = seeds + over_images
        parts = seeds**2 / freedom + over_images**2 / (len(images) - 1)
        freedom = variance**2 / parts if parts else freedom
    return difference(float(differences.mean()), variance, freedom, count)


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
      held_out: of the column `held_out`, which is measured on other images: those that are held
        out, over all others of the pool; None is `ratio`.
    """

    ratio: float
    held_out: float | None = None

    def of(self, column: str) -> float:
        """The ratio that belongs to a column of the results."""
        own = self.held_out if column == "held_out" else None
        return self.ratio if own is None else own


class OneTest(NamedTuple):
    """All runs are tested on one set of images.

    Attributes:
      correct: by row and seed, bool `[C, n]`: which of a class's test images are classified
        correctly. Rows that are not in it are compared without the variance over images.
      groups: indices of the classes of `many`, `medium` and `few`.
    """

    correct: Mapping[str, Mapping[int, np.ndarray]] = {}
    groups: Mapping[str, np.ndarray] = {}

    def images(
        self, name: str, reference: str, column: str, seeds: Iterable[int]
    ) -> np.ndarray | None:
        """Difference of two rows at every test image, centered within its class, `[N]`.

        Args:
          name: of a row.
          reference: of the row to subtract.
          column: that is compared; None is returned for one that is no share of test images.
          seeds: that both rows have.
        """
        first, second = self.correct.get(name), self.correct.get(reference)
        if not first or not second or not (column == "accuracy" or column in self.groups):
            return None
        shares = [np.mean([row[seed] for seed in seeds], axis=0) for row in (first, second)]
        found = shares[0] - shares[1]
        if column in self.groups:
            found = found[self.groups[column]]
        return np.ravel(found - found.mean(axis=1, keepdims=True))


Design = Splits | OneTest
