"""Exposure: how often every class and every image is drawn."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from ltjax.samplers.baselines import PowerSampler, ProgressiveSampler
from ltjax.samplers.counting import exposure, sentence, summary, table
from tests.samplers.cases import samplers


@pytest.mark.filterwarnings("ignore:no image of class")
@hypothesis.given(samplers(), st.integers(1, 4))
def test_exposure_counts_every_draw(sampler, epochs):
    seen = exposure(sampler, sampler.labels, epochs)
    draws = [sampler.epoch(e).ravel() for e in range(epochs)]
    size = len(sampler.labels)
    np.testing.assert_array_equal(seen.image_epoch, np.bincount(draws[0], minlength=size))
    total = np.bincount(np.concatenate(draws), minlength=size)
    np.testing.assert_array_equal(seen.image_schedule, total)
    for c in range(len(sampler.counts)):
        mine = total[sampler.labels == c]
        assert seen.class_schedule[c] == mine.sum()
        assert seen.class_least[c] == (mine.min() if len(mine) else 0)
        assert seen.class_most[c] == (mine.max() if len(mine) else 0)
    assert seen.class_epoch.sum() == sampler.steps_per_epoch * sampler.batch_size


def test_long_schedules_are_scaled_up():
    labels = np.repeat(np.arange(3), [60, 30, 10])
    sampler = ProgressiveSampler(labels, 10, epochs=101, seed=0)
    whole = exposure(sampler, labels, 101)
    sampled = exposure(sampler, labels, 101, most_draws=1100)
    assert (whole.counted, sampled.counted) == (101, 11)
    np.testing.assert_allclose(sampled.class_schedule, whole.class_schedule, rtol=0.01)
    assert "about" in sentence(summary(sampled), "abc")


def test_table_and_sentence():
    labels = np.repeat(np.arange(3), [60, 30, 10])
    sampler = PowerSampler(labels, 10, power=0, seed=0)
    seen = summary(exposure(sampler, labels, 93))
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


def test_classes_without_images_at_the_end_are_counted_too():
    labels = np.array([0, 0, 1])
    seen = exposure(PowerSampler(labels, 3, power=1, seed=0), labels, 2, num_classes=4)
    assert seen.class_counts.tolist() == [2, 1, 0, 0]
    assert seen.class_epoch.tolist() == [2, 1, 0, 0]
    assert seen.class_schedule.tolist() == [4, 2, 0, 0]
    assert seen.class_least.tolist() == seen.class_most.tolist() == [2, 2, 0, 0]
