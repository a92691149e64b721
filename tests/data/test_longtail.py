"""Profiles, subsets and groups against the field's published numbers."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from ltjax.data.longtail import (
    exponential_counts,
    holdout,
    pareto_counts,
    shot_groups,
    step_counts,
    subset_indices,
)
from tests.helpers import SHARED, needs_data


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


SETS = [("cifar10", 5000, 10), ("cifar100", 500, 100)]


def reference_subset(labels, counts):
    """The rule of the field's CIFAR-LT code, restated: one generator, classes in label order."""
    np.random.seed(0)  # noqa: NPY002 - the legacy generator is the rule
    kept = []
    for label, count in enumerate(counts):
        members = np.where(np.array(labels) == label)[0]
        np.random.shuffle(members)  # noqa: NPY002
        kept += members[:count].tolist()
    return kept


@needs_data
@pytest.mark.parametrize(
    ("name", "head", "classes"), [("cifar10", 5000, 10), ("cifar100", 500, 100)]
)
@pytest.mark.parametrize("factor", [10, 50, 100])
def test_the_very_images_of_the_field(name, head, classes, factor):
    labels = np.load(SHARED / "lists" / f"{name}_train_labels.npy")
    counts = exponential_counts(head, classes, factor)
    assert subset_indices(labels, counts, 0).tolist() == reference_subset(labels, counts)


@needs_data
@pytest.mark.parametrize(
    ("name", "head", "classes"), [("cifar10", 5000, 10), ("cifar100", 500, 100)]
)
def test_stored_sets_are_picked_by_rank_and_by_official_order(name, head, classes, monkeypatch):
    from ltjax.data.load import DataConfig, load_splits
    from ltjax.data.tfds import read_tfds

    official = np.load(SHARED / "lists" / f"{name}_train_labels.npy")
    whole = read_tfds(f"{name}_lt", str(SHARED / "tfds"), "train", size=None)
    records = whole.reader.records()
    for factor in (10, 100):
        counts = exponential_counts(head, classes, factor)
        train, test, *_ = load_splits(
            DataConfig(name=f"{name}_lt", dir=str(SHARED / "tfds"), imbalance_factor=factor)
        )
        assert len(test) == 10_000
        numbers = [int(r["id"][6:]) for r in records.__getitems__(train.positions.tolist())]
        assert sorted(numbers) == sorted(subset_indices(official, counts, 0))
        assert train.class_counts.tolist() == counts.tolist()


def test_official_order_is_restored():
    """A source in another order, with its official places, gives the same images."""
    from ltjax.data.sources import ArraySource
    from ltjax.data.split import thin

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    images = np.arange(200, dtype=np.uint8)[:, None, None, None]
    expected = subset_indices(labels, exponential_counts(30, 3, 5), 0)
    places = rng.permutation(200)
    stored = ArraySource(images[places], labels[places], ("a", "b", "c"), places)
    thinned = thin(stored, exponential_counts, imbalance_factor=5, max_count=30, seed=0)
    assert sorted(thinned.images.ravel()) == sorted(expected)


def test_step_and_pareto():
    assert step_counts(500, 5, 100).tolist() == [500, 500, 500, 5, 5]
    counts = pareto_counts(1280, 1000, 256)
    assert counts[0] == 1280
    assert counts[-1] == 5
    assert (np.diff(counts) <= 0).all()
    for profile in (step_counts, pareto_counts):
        with pytest.raises(ValueError, match=r"imbalance_factor = 0.5"):
            profile(10, 3, 0.5)
