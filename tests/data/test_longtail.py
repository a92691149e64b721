"""Profiles, subsets and groups against the field's published numbers."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from ltjax.data.longtail import exponential_counts, holdout, shot_groups, subset_indices


@pytest.mark.parametrize(
    ("head", "classes", "factor", "total"),
    [
        (5000, 10, 10, 20431),
        (5000, 10, 50, 13996),
        (5000, 10, 100, 12406),
        (5000, 10, 200, 11203),
        (500, 100, 10, 19573),
        (500, 100, 50, 12608),
        (500, 100, 100, 10847),
        (500, 100, 200, 9502),
    ],
)
def test_published_totals(head, classes, factor, total):
    counts = exponential_counts(head, classes, factor)
    assert counts.sum() == total
    assert (np.diff(counts) <= 0).all()


@hypothesis.given(st.lists(st.integers(2, 9), min_size=1, max_size=6), st.integers(0, 3))
def test_holdout_is_a_balanced_partition(counts, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    train, test = holdout(labels, 1, seed)
    assert sorted([*train, *test]) == list(range(len(labels)))
    assert np.bincount(labels[test]).tolist() == [1] * len(counts)


def test_subset_is_the_first_of_the_legacy_shuffle():
    labels = np.array([1, 0, 1, 0, 0, 1])
    rng = np.random.RandomState(0)
    zeros, ones = [1, 3, 4], [0, 2, 5]
    rng.shuffle(zeros)
    rng.shuffle(ones)
    assert subset_indices(labels, np.array([2, 1]), 0).tolist() == [*zeros[:2], ones[0]]


def test_subset_refuses_more_than_there_is():
    with pytest.raises(ValueError, match="class 1 has 1 images, fewer than the 2"):
        subset_indices(np.array([0, 0, 1]), np.array([1, 2]), 0)


@pytest.mark.parametrize("factor", [0.5, 0, -1, np.nan])
def test_imbalance_factor_under_one(factor):
    with pytest.raises(ValueError, match="imbalance_factor"):
        exponential_counts(10, 3, factor)


def test_shot_groups_at_the_borders():
    groups = shot_groups(np.array([101, 100, 20, 19, 0]))
    assert [g.tolist() for g in groups] == [[0], [1, 2], [3, 4]]
