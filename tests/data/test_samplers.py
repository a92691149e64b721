"""Properties, golden values and bad input of the batch plans."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from scipy import stats

from ltjax.data.b3rs import (
    B3RS,
    PARTITIONS,
    embed,
    embedded_slots,
    largest_remainder,
    make_plan,
    partition_classes,
)
from ltjax.data.samplers import PowerSampler, shuffled_cycles


@st.composite
def label_sets(draw):
    counts = draw(st.lists(st.integers(0, 25), min_size=1, max_size=8).filter(any))
    seed = draw(st.integers(0, 9))
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(labels)


@st.composite
def b3rs_plans(draw):
    labels = draw(label_sets())
    classes = len(np.unique(labels))
    blocks = draw(st.integers(1, classes))
    batch = draw(st.integers(blocks, 24))
    return B3RS(
        labels,
        batch,
        num_blocks=blocks,
        balance=draw(st.sampled_from([0.0, 0.3, 0.5, 1.0])),
        partition=draw(st.sampled_from(PARTITIONS)),
        seed=draw(st.integers(0, 5)),
    )


def assert_plan(plan, labels, epochs=2):
    for epoch in range(epochs):
        indices = plan.epoch(epoch)
        assert indices.shape == (-(-len(labels) // plan.batch_size), plan.batch_size)
        assert indices.dtype == np.int64
        assert indices.min() >= 0
        assert indices.max() < len(labels)
        for step, row in enumerate(indices):
            np.testing.assert_array_equal(plan[epoch * plan.steps_per_epoch + step], row)
        np.testing.assert_array_equal(plan.epoch(epoch), indices)


@hypothesis.given(b3rs_plans())
def test_b3rs_composition(plan):
    labels, counts = plan.labels, plan.counts
    assert_plan(plan, labels)
    for epoch in range(2):
        indices = plan.epoch(epoch)
        draws = np.bincount(labels[indices.ravel()], minlength=len(counts))
        exposure = np.bincount(indices.ravel(), minlength=len(labels))
        for block in plan.blocks:
            assert np.ptp(draws[block]) <= 1
        for c in np.flatnonzero(counts):
            assert np.ptp(exposure[labels == c]) <= 1
        for row in indices:
            slots = np.bincount(labels[row], minlength=len(counts))
            assert [slots[b].sum() for b in plan.blocks] == plan.quotas.tolist()
            _, first, times = np.unique(row, return_index=True, return_counts=True)
            repeated = labels[row[first[times > 1]]]
            assert (slots[repeated] > counts[repeated]).all()


@hypothesis.given(label_sets(), st.integers(1, 20), st.sampled_from([1, 0.5, 0, -1]))
def test_power_sampler(labels, batch, power):
    plan = PowerSampler(labels, batch, power=power, seed=3)
    assert_plan(plan, labels)
    if power == 1:
        exposure = np.bincount(plan.epoch(0).ravel(), minlength=len(labels))
        assert exposure.min() >= 1
        assert np.ptp(exposure) <= 1


@pytest.mark.parametrize("power", [0.5, 0.0, -1.0])
def test_power_sampler_class_frequencies(power):
    counts = np.array([60, 30, 9, 3])
    plan = PowerSampler(np.repeat(np.arange(4), counts), 32, power=power, seed=0)
    drawn = np.concatenate([plan.labels[plan.epoch(e).ravel()] for e in range(60)])
    expected = counts**power / (counts**power).sum() * len(drawn)
    assert stats.chisquare(np.bincount(drawn, minlength=4), expected).pvalue > 1e-3


def test_balance_ends_are_instance_and_class_balanced():
    labels = np.repeat(np.arange(4), [40, 20, 12, 8])
    instance = B3RS(labels, 80, num_blocks=2, balance=0, seed=0)
    balanced = B3RS(labels, 80, num_blocks=2, balance=1, seed=0)
    assert instance.quotas.tolist() == [60, 20]
    assert balanced.quotas.tolist() == [40, 40]


def test_seeds_and_epochs_differ():
    labels = np.repeat(np.arange(5), 40)
    plan = B3RS(labels, 20, num_blocks=2, seed=0)
    other = B3RS(labels, 20, num_blocks=2, seed=1)
    assert (plan.epoch(0) != plan.epoch(1)).any()
    assert (plan.epoch(0) != other.epoch(0)).any()


def test_shuffled_cycles_are_permutations():
    out = shuffled_cycles(np.random.default_rng(0), np.array([3, 0, 5]), np.array([4, 0, 2]))
    first, second = out[:12].reshape(4, 3), out[12:].reshape(2, 5)
    assert (np.sort(first, axis=1) == np.arange(3)).all()
    assert (np.sort(second, axis=1) == np.arange(5)).all()


@hypothesis.given(
    st.integers(1, 5), st.sampled_from([0.25, 0.5, 1.0]), st.integers(0, 60), st.integers(0, 3)
)
def test_embed_places_slots_and_streams_both_plans(every, fraction, step, seed):
    labels = np.repeat(np.arange(4), [30, 12, 6, 3])
    slots = embedded_slots(8, fraction)
    regular = PowerSampler(labels, 8, power=1, seed=seed)
    balanced = B3RS(labels, slots, num_blocks=2, seed=seed + 50)
    plan = embed(regular, balanced, every=every, fraction=fraction)
    batch, flags = plan[step], plan.flags(step)
    hit = (step + 1) % every == 0
    assert flags.sum() == (slots if hit else 0)
    if hit:
        np.testing.assert_array_equal(batch[flags], balanced[step // every])
    # All regular slots so far, joined, are the regular plan read as one stream.
    joined = np.concatenate([plan[t][~plan.flags(t)] for t in range(step + 1)])
    stream = np.concatenate([regular[t] for t in range(step + 1)])
    np.testing.assert_array_equal(joined, stream[: len(joined)])


def test_embed_every_step_whole_batch_is_the_balanced_plan():
    labels = np.repeat(np.arange(4), [30, 12, 6, 3])
    balanced = B3RS(labels, 8, num_blocks=2, seed=1)
    plan = embed(PowerSampler(labels, 8, power=1, seed=0), balanced, every=1, fraction=1.0)
    np.testing.assert_array_equal(plan.epoch(1), balanced.epoch(1))
    assert plan.flags(3).all()


@hypothesis.given(label_sets(), st.sampled_from(PARTITIONS), st.data())
def test_partitions_are_contiguous_and_cover(labels, partition, data):
    counts = np.bincount(labels)
    num = data.draw(st.integers(1, int((counts > 0).sum())))
    blocks = partition_classes(counts, num, partition)
    assert len(blocks) == num
    assert all(len(b) for b in blocks)
    joined = np.concatenate(blocks)
    assert sorted(joined) == np.flatnonzero(counts).tolist()
    assert (np.diff(counts[joined]) <= 0).all()


@hypothesis.given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=8), st.integers(0, 100))
def test_largest_remainder_adds_up(shares, extra):
    total = len(shares) + extra
    quotas = largest_remainder(np.array(shares), total)
    assert quotas.sum() == total
    assert quotas.min() >= 1


def test_golden_plans():
    """The indices of one seed, pinned: a change of them changes every stored run."""
    labels = np.repeat(np.arange(3), [5, 3, 2])
    power = PowerSampler(labels, 5, power=1, seed=7)
    b3rs = B3RS(labels, 5, num_blocks=2, seed=7)
    assert power.epoch(0).tolist() == GOLDEN_POWER
    assert b3rs.epoch(0).tolist() == GOLDEN_B3RS


GOLDEN_POWER = [[8, 0, 7, 1, 3], [6, 2, 4, 5, 9]]
GOLDEN_B3RS = [[0, 9, 7, 6, 1], [8, 5, 4, 7, 3]]


LABELS = np.repeat(np.arange(4), [8, 4, 2, 1])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PowerSampler(np.array([]), 4, power=1, seed=0), "at least one label"),
        (lambda: PowerSampler(np.array([0, -1]), 4, power=1, seed=0), "labels >= 0"),
        (lambda: PowerSampler(np.array([0.5]), 4, power=1, seed=0), "integer dtype"),
        (lambda: PowerSampler(LABELS, 0, power=1, seed=0), "batch_size = 0"),
        (lambda: PowerSampler(LABELS, 4, power=np.nan, seed=0), "power = nan"),
        (lambda: B3RS(LABELS, 4, num_blocks=5, seed=0), "num_blocks = 5"),
        (lambda: B3RS(LABELS, 2, num_blocks=3, seed=0), "batch_size = 2"),
        (lambda: B3RS(LABELS, 4, num_blocks=2, balance=1.5, seed=0), "balance = 1.5"),
        (lambda: B3RS(LABELS, 4, num_blocks=2, partition="x", seed=0), "partition = 'x'"),
        (lambda: embedded_slots(8, 0.0), "fraction = 0.0"),
        (lambda: embedded_slots(8, 1.1), "fraction = 1.1"),
        (
            lambda: embed(
                PowerSampler(LABELS, 4, power=1, seed=0),
                B3RS(LABELS, 4, num_blocks=2, seed=0),
                every=0,
            ),
            "every = 0",
        ),
        (
            lambda: embed(
                PowerSampler(LABELS, 4, power=1, seed=0),
                B3RS(LABELS, 4, num_blocks=2, seed=0),
                fraction=0.5,
            ),
            "balanced.batch_size = 4",
        ),
        (
            lambda: make_plan(
                LABELS,
                4,
                name="x",
                seed=0,
                num_blocks=2,
                balance=0.5,
                partition="classes",
                every=1,
                fraction=1.0,
            ),
            "plan.name = 'x'",
        ),
    ],
)
def test_bad_input_names_the_value(make, words):
    with pytest.raises(ValueError, match=words.replace("[", r"\[")):
        make()
