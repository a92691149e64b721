"""Exposure, empty classes, real label lists, and the epoch prepared ahead."""

import threading
import warnings
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from ltjax.samplers.b3rs import B3RS
from ltjax.samplers.base import index_labels
from ltjax.samplers.baselines import PowerSampler, ProgressiveSampler
from ltjax.samplers.exposure import exposure, sentence, summary, table
from ltjax.samplers.prefetch import Ahead
from ltjax.samplers.registry import PLANS, make_plan
from tests.samplers.plan_cases import plans

LISTS = Path(__file__).parents[3] / "shared" / "data" / "lists"


@pytest.mark.filterwarnings("ignore:no image of class")
@hypothesis.given(plans(), st.integers(1, 4))
def test_exposure_counts_every_draw(plan, epochs):
    seen = exposure(plan, plan.labels, epochs)
    draws = [plan.epoch(e).ravel() for e in range(epochs)]
    size = len(plan.labels)
    np.testing.assert_array_equal(seen.image_epoch, np.bincount(draws[0], minlength=size))
    total = np.bincount(np.concatenate(draws), minlength=size)
    np.testing.assert_array_equal(seen.image_schedule, total)
    for c in range(len(plan.counts)):
        mine = total[plan.labels == c]
        assert seen.class_schedule[c] == mine.sum()
        assert seen.class_least[c] == (mine.min() if len(mine) else 0)
        assert seen.class_most[c] == (mine.max() if len(mine) else 0)
    assert seen.class_epoch.sum() == plan.steps_per_epoch * plan.batch_size


def test_long_schedules_are_scaled_up():
    labels = np.repeat(np.arange(3), [60, 30, 10])
    plan = ProgressiveSampler(labels, 10, epochs=101, seed=0)
    whole = exposure(plan, labels, 101)
    sampled = exposure(plan, labels, 101, most_draws=1100)
    assert (whole.counted, sampled.counted) == (101, 11)
    np.testing.assert_allclose(sampled.class_schedule, whole.class_schedule, rtol=0.01)
    assert "about" in sentence(summary(sampled), "abc")


def test_table_and_sentence():
    labels = np.repeat(np.arange(3), [60, 30, 10])
    plan = PowerSampler(labels, 10, power=0, seed=0)
    seen = summary(exposure(plan, labels, 93))
    assert sentence(seen, ["cat", "dog", "yak"]) == (
        "in 93 epochs the rarest image (class yak, 10 images) will be seen 310 times (303 to "
        "320), the most common (class cat, 60 images) 52 times (38 to 64)"
    )
    header, *rows = table(seen, ["cat", "dog", "yak"])
    assert [row[0] for row in rows] == ["cat", "dog", "yak"]
    assert all(len(row) == len(header) for row in rows)
    assert rows[2][1] == "10"
    many = np.repeat(np.arange(40), np.arange(40, 0, -1))
    long = summary(exposure(PowerSampler(many, 10, power=1, seed=0), many, 1))
    rows = table(long, [str(c) for c in range(40)])
    assert len(rows) == 13
    assert (rows[1][0], rows[-1][0]) == ("0", "39")


@pytest.mark.parametrize("name", PLANS)
def test_classes_without_images_are_named_once_and_never_drawn(name):
    labels = np.repeat([0, 2, 4], [20, 9, 4])
    names = ["ant", "bee", "cat", "dog", "eel", "fox"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        index = index_labels(labels, names)
        plan = make_plan(index, 8, name=name, seed=0, num_blocks=3, fraction=0.5)
    assert [str(w.message) for w in caught] == [
        "no image of classes bee, dog, fox; no plan draws from it"
    ]
    drawn = np.bincount(labels[np.concatenate([plan.epoch(e).ravel() for e in range(3)])])
    assert drawn.tolist()[1::2] == [0, 0]
    assert (drawn[[0, 2, 4]] > 0).all()


def test_many_empty_classes_are_one_short_line():
    with pytest.warns(UserWarning, match="classes 0, 1, 2, 3, 4 and 95 more"):
        index_labels(np.array([100]))
    with pytest.warns(UserWarning, match="no image of class 1;"):
        PowerSampler(np.array([0, 2]), 2, power=1, seed=0)
    with pytest.raises(ValueError, match=r"len\(class_names\) = 1 .* each of the 2 classes"):
        index_labels(np.array([0, 1]), ["a"])


def test_ahead_gives_the_plan_and_works_on_another_thread():
    labels = np.repeat(np.arange(3), [9, 4, 2])
    plan = B3RS(labels, 4, num_blocks=2, seed=0)
    threads = []
    own = plan.epoch

    def epoch(number):
        threads.append((number, threading.current_thread().name))
        return own(number)

    plan.epoch = epoch
    ahead = Ahead(plan, 3)
    steps = plan.steps_per_epoch
    rows = [ahead[step] for step in range(5, 3 * steps)]  # as after a resume
    ahead.close()
    expected = np.concatenate([own(e) for e in range(3)])[5:]
    np.testing.assert_array_equal(rows, expected)
    assert [number for number, _ in threads] == [1, 2]
    assert all(name.startswith("plan") for _, name in threads)
    assert ahead.fingerprint() == plan.fingerprint()


def test_ahead_passes_errors_on():
    plan = PowerSampler(np.array([0, 1]), 2, power=1, seed=0)
    plan.epoch = lambda number: 1 // 0
    ahead = Ahead(plan, 3)
    with pytest.raises(ZeroDivisionError):
        ahead[0]
    ahead.close()


def imagenet_lt():
    counts = np.loadtxt(LISTS / "imagenet_lt_train_counts.txt", dtype=int)
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))


REAL = {
    "places_lt": (lambda: np.load(LISTS / "places_lt_train_labels.npy"), 62500, 365),
    "imagenet_lt": (imagenet_lt, 115846, 1000),
}


@pytest.mark.skipif(not LISTS.exists(), reason="the real label lists are not there")
@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("data", REAL)
def test_real_label_lists(data, name):
    load, images, classes = REAL[data]
    labels = load()
    assert (len(labels), labels.max() + 1) == (images, classes)
    counts = np.bincount(labels)
    plan = make_plan(labels, 512, name=name, seed=0, epochs=90, fraction=0.5)
    rows = plan.epoch(1)
    assert rows.shape == (-(-images // 512), 512)
    if name == "b3rs_bet":
        return
    exposed = np.bincount(rows.ravel(), minlength=images)
    least, most = np.full(classes, images), np.zeros(classes, int)
    np.minimum.at(least, labels, exposed)
    np.maximum.at(most, labels, exposed)
    assert (most - least <= 1).all()
    slots = np.zeros(classes, int)
    for row in rows:
        if len(np.unique(row)) < 512:
            images_twice, times = np.unique(row, return_counts=True)
            slots = np.bincount(labels[row], minlength=classes)
            twice = labels[images_twice[times > 1]]
            assert (slots[twice] > counts[twice]).all()
    if name == "b3rs":
        drawn = np.bincount(labels[rows.ravel()], minlength=classes)
        per_batch = np.stack([np.bincount(labels[row], minlength=classes) for row in rows])
        for block, quota in zip(plan.blocks, plan.quotas, strict=True):
            assert np.ptp(drawn[block]) <= 1
            assert (per_batch[:, block].sum(axis=1) == quota).all()
