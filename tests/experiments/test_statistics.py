"""Differences between methods: against SciPy, a simulation of dependent splits, and by hand."""

import numpy as np
import pytest
from scipy import stats

from experiments.statistics import OneTest, holm, resampled, unpaired


def test_without_overlap_the_resampled_test_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.random(8), rng.random(8)
    found, expected = resampled(a - b, 0.0), stats.ttest_rel(a, b)
    interval = expected.confidence_interval()
    np.testing.assert_allclose(found[1:4], [interval.low, interval.high, expected.pvalue])
    assert found.seeds == 8


def test_the_correction_widens_by_the_square_root_of_one_and_seeds_times_the_ratio():
    x = np.random.default_rng(1).random(20)
    plain, corrected = resampled(x, 0.0), resampled(x, 500 / 1297)
    widths = [found.high - found.low for found in (plain, corrected)]
    np.testing.assert_allclose(widths[1] / widths[0], np.sqrt(1 + 20 * 500 / 1297))


def test_dependent_splits_are_not_taken_for_independent_ones():
    # Two constant classifiers that are right equally often: a split's difference is that of its
    # test images, and 20 random halves of one pool of 60 images say no more than the pool does.
    rng = np.random.default_rng(2)
    wrong = np.zeros(2)
    for _ in range(200):
        pool = rng.choice([-1.0, 0.0, 1.0], 60)
        x = np.array([rng.choice(pool, 30, replace=False).mean() for _ in range(20)])
        wrong += [resampled(x, ratio).p < 0.05 for ratio in (0.0, 1.0)]
    assert wrong[0] > 0.4 * 200
    assert wrong[1] < 0.08 * 200


def test_without_images_the_unpaired_test_is_student_s():
    rng = np.random.default_rng(0)
    a, b = rng.random(5), rng.random(3)
    found, expected = unpaired(a, b), stats.ttest_ind(a, b)
    interval = expected.confidence_interval()
    np.testing.assert_allclose(found[1:4], [interval.low, interval.high, expected.pvalue])
    assert found.seeds == 3


def test_the_variance_over_images_is_that_of_their_bootstrap():
    rng = np.random.default_rng(0)
    images = rng.choice([-1.0, 0.0, 1.0], 400)
    same = np.full(3, 0.5)
    found = unpaired(same, same, images)
    drawn = rng.choice(images, (4000, 400)).mean(axis=1)
    half = stats.t.ppf(0.975, 399) * drawn.std(ddof=1)
    np.testing.assert_allclose(found.high, half, rtol=0.04)
    assert unpaired(same + np.array([0, 0.1, -0.1]), same, images).high > found.high


def test_images_are_compared_within_classes():
    rng = np.random.default_rng(0)
    correct = {name: {s: rng.random((3, 50)) < 0.5 for s in range(2)} for name in "ab"}
    design = OneTest(correct, {"few": np.array([2])})
    found = design.images("a", "b", "accuracy")
    shares = [np.mean(list(correct[name].values()), axis=0) for name in "ab"]
    expected = shares[0] - shares[1]
    expected -= expected.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected.ravel())
    np.testing.assert_allclose(design.images("a", "b", "few"), expected[2])
    assert design.images("a", "c", "accuracy") is None
    assert design.images("a", "b", "before_whitening/rank") is None


@pytest.mark.parametrize("p", [[], [0.2], [0.01, 0.04, 0.03], [0.5, 0.5, 0.9], [0.001] * 4])
def test_holm_against_its_definition(p):
    found = holm(p)
    for value, adjusted in zip(p, found, strict=True):
        # The smallest level at which Holm's procedure rejects: all smaller ones are rejected too.
        ranks = sorted(p)
        steps = [(len(p) - i) * q for i, q in enumerate(ranks) if q <= value]
        assert adjusted == pytest.approx(min(1.0, max(steps)))


def test_an_exact_difference_has_no_doubt():
    found = resampled(np.full(3, 0.1), 0.5)
    assert (found.mean, found.low, found.high, found.p) == pytest.approx((0.1, 0.1, 0.1, 0.0))
    assert resampled(np.zeros(3), 0.5).p == 1.0
