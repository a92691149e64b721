"""Differences between methods: against SciPy, simulations of what runs share, and by hand."""

import numpy as np
import pytest
from scipy import stats

from experiments.statistics import OneTest, Splits, holm, paired
from ltjax.data.longtail import exponential_counts


def test_without_overlap_and_images_it_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.random(8), rng.random(8)
    found, expected = paired(a - b), stats.ttest_rel(a, b)
    interval = expected.confidence_interval()
    np.testing.assert_allclose(found[1:4], [interval.low, interval.high, expected.pvalue])
    assert found.seeds == 8


def test_the_correction_widens_by_the_square_root_of_one_and_seeds_times_the_ratio():
    x = np.random.default_rng(1).random(20)
    plain, corrected = paired(x, 0.0), paired(x, 500 / 1297)
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
        wrong += [paired(x, ratio).p < 0.05 for ratio in (0.0, 1.0)]
    assert wrong[0] > 0.4 * 200
    assert wrong[1] < 0.08 * 200


def split_differences(rng, factor, splits=10):
    """Two nearest-mean classifiers on equally good halves of the features, over splits of a pool.

    As of the digits: 180 images of each of ten classes, 50 of which are for testing, and a long
    tail of the others for training.
    """
    counts = exponential_counts(128, 10, factor)
    half = 0.9 * rng.normal(size=(10, 12))
    pool = np.concatenate([half, half], axis=1)[:, None] + rng.normal(size=(10, 180, 24))
    found = np.empty(splits)
    for split in range(splits):
        drawn = [pool[c][rng.permutation(180)] for c in range(10)]
        test = np.stack([images[:50] for images in drawn])
        means = np.stack([x[50 : 50 + n].mean(axis=0) for x, n in zip(drawn, counts, strict=True)])
        apart = ((test[:, :, None] - means) ** 2).reshape(10, 50, 10, 2, 12).sum(axis=-1)
        right = apart.argmin(axis=2) == np.arange(10)[:, None, None]
        found[split] = np.diff(right.mean(axis=(0, 1)))[0]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "low", "high"), [(1, 0.2, 0.4), (20, 0.05, 0.25)])
def test_thinned_splits_are_less_alike_than_the_correction_takes_them_for(factor, low, high):
    rng = np.random.default_rng(4)
    x = np.array([split_differences(rng, factor) for _ in range(150)])
    within = x.var(axis=1, ddof=1).mean()
    between = x.mean(axis=1).var(ddof=1) - within / x.shape[1]
    assert low < between / (between + within) < high  # 500 / 1800 without the long tail
    wrong = [paired(of_pool, 500 / 1300).p < 0.05 for of_pool in x]
    assert np.mean(wrong) < 0.09


@pytest.mark.parametrize("alike", [0.0, 0.9])
@pytest.mark.parametrize("over_images", [0.0, 1.0, 3.0])
def test_runs_on_one_test_set_are_covered_whether_or_not_seeds_are_alike(alike, over_images):
    # Two rows that are equally good, five seeds, 100 test images. Runs of one seed have a part in
    # common, and the rows differ on single images, always and at random, by seed.
    rng = np.random.default_rng(3)
    wrong, widths = 0, []
    for _ in range(400):
        common = np.sqrt(alike) * rng.normal(size=5)
        first, second = (common + np.sqrt(1 - alike) * rng.normal(size=5) for _ in range(2))
        # The standard deviation over images, of a mean, in units of that over seeds, of a run.
        images = over_images * 10 / np.sqrt(5) * rng.normal(size=100)
        each = images + over_images * rng.normal(size=(5, 100))
        found = paired(first - second + each.mean(axis=1), images=each.mean(axis=0))
        wrong += found.p < 0.05
        widths.append(found.high - found.low)
    assert wrong < 0.075 * 400
    if not over_images:  # what the runs of a seed have in common cancels
        assert np.mean(widths) == pytest.approx(3.30 * np.sqrt(1 - alike), rel=0.05)


def test_the_variance_over_images_is_that_of_their_bootstrap():
    rng = np.random.default_rng(0)
    images = rng.choice([-1.0, 0.0, 1.0], 400)
    same = np.full(3, 0.5)
    found = paired(same - same, images=images)
    drawn = rng.choice(images, (4000, 400)).mean(axis=1)
    half = stats.t.ppf(0.975, 399) * drawn.std(ddof=1)
    np.testing.assert_allclose(found.high, half, rtol=0.04)
    assert paired(np.array([0, 0.1, -0.1]), images=images).high > found.high


def test_images_are_compared_within_classes_over_the_seeds_of_the_pairs():
    rng = np.random.default_rng(0)
    correct = {name: {s: rng.random((3, 50)) < 0.5 for s in range(3)} for name in "ab"}
    design = OneTest(correct, {"few": np.array([2])})
    found = design.images("a", "b", "accuracy", [0, 2])
    shares = [np.mean([correct[name][seed] for seed in (0, 2)], axis=0) for name in "ab"]
    expected = shares[0] - shares[1]
    expected -= expected.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected.ravel())
    np.testing.assert_allclose(design.images("a", "b", "few", [0, 2]), expected[2])
    assert design.images("a", "c", "accuracy", [0]) is None
    assert design.images("a", "b", "before_whitening/rank", [0]) is None


def test_held_out_images_have_a_ratio_of_their_own():
    assert [Splits(0.4, 0.1).of(column) for column in ("accuracy", "held_out")] == [0.4, 0.1]
    assert Splits(0.4).of("held_out") == 0.4


@pytest.mark.parametrize("p", [[], [0.2], [0.01, 0.04, 0.03], [0.5, 0.5, 0.9], [0.001] * 4])
def test_holm_against_its_definition(p):
    found = holm(p)
    for value, adjusted in zip(p, found, strict=True):
        # The smallest level at which Holm's procedure rejects: all smaller ones are rejected too.
        ranks = sorted(p)
        steps = [(len(p) - i) * q for i, q in enumerate(ranks) if q <= value]
        assert adjusted == pytest.approx(min(1.0, max(steps)))


def test_an_exact_difference_has_no_doubt():
    found = paired(np.full(3, 0.1), 0.5)
    assert (found.mean, found.low, found.high, found.p) == pytest.approx((0.1, 0.1, 0.1, 0.0))
    assert paired(np.zeros(3), 0.5).p == 1.0
