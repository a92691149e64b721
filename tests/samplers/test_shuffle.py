"""The core of cyclic draws: shuffles are uniform permutations, and deals are fair."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from scipy import stats

from ltjax.samplers.shuffle import (
    apportion,
    batch_shuffle,
    bit_stream,
    cyclic_times,
    group_order,
    random_slots,
    shuffled_cycles,
    shuffled_rows,
)


@pytest.mark.parametrize("shape", [(5, 1), (7, 12), (3, 2048), (2, 3000), (0, 4)])
def test_rows_are_permutations(shape):
    rows = shuffled_rows(bit_stream(0), *shape)
    assert rows.shape == shape
    np.testing.assert_array_equal(
        np.sort(rows, axis=1), np.tile(np.arange(shape[1]), (shape[0], 1))
    )


def test_rows_are_uniform():
    rows = shuffled_rows(bit_stream(0), 24_000, 4)
    _, times = np.unique(rows, axis=0, return_counts=True)
    assert len(times) == 24
    assert stats.chisquare(times).pvalue > 1e-3


@hypothesis.given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 3)), min_size=1, max_size=9)
)
def test_cycles_are_permutations_of_each_group(groups):
    sizes, times = np.array(sorted(groups, reverse=True)).T
    out = shuffled_cycles(bit_stream(1), sizes, times)
    at, first = 0, 0
    for size, count in zip(sizes, times, strict=True):
        part = out[at : at + size * count].reshape(count, size)
        np.testing.assert_array_equal(np.sort(part), np.tile(np.arange(size) + first, (count, 1)))
        at, first = at + size * count, first + size
    assert at == len(out)


def test_cycles_of_very_different_sizes():
    sizes, times = np.array([5000, 2100, 2000, 3, 1]), np.array([1, 2, 1, 4, 3])
    out = shuffled_cycles(bit_stream(0), sizes, times)
    assert len(out) == (sizes * times).sum()
    seen = np.bincount(out, minlength=sizes.sum())
    np.testing.assert_array_equal(seen, np.repeat(times, sizes))


@hypothesis.given(st.integers(1, 12), st.integers(1, 60))
def test_times_go_round(members, draws):
    times = cyclic_times(bit_stream(2), members, draws)
    cycles_ = -(-draws // members)
    np.testing.assert_array_equal(np.sort(times.ravel()), np.arange(cycles_ * members))
    np.testing.assert_array_equal(times // members, np.tile(np.arange(cycles_), (members, 1)))


def test_batch_shuffle_stays_in_the_batch():
    place = batch_shuffle(bit_stream(0), 3, 5)
    np.testing.assert_array_equal(place[:-1] // 5, np.arange(15) // 5)
    np.testing.assert_array_equal(np.sort(place), np.arange(16))
    assert place[-1] == 15


@hypothesis.given(st.lists(st.integers(0, 6), min_size=1, max_size=50), st.integers(0, 5))
def test_group_order_is_a_stable_sort(groups, extra):
    groups = np.array(groups)
    numbers = np.random.default_rng(0).permutation(len(groups) + extra)[: len(groups)]
    out = group_order(groups, numbers.astype(np.uint64), len(groups) + extra)
    np.testing.assert_array_equal(out, numbers[np.lexsort((numbers, groups))])


def test_random_slots_deal_every_slot_once():
    draws = np.array([3, 0, 4])
    slots = random_slots(bit_stream(0), draws)
    np.testing.assert_array_equal(np.sort(slots), np.arange(7))
    assert (np.diff(slots[:3]) > 0).all()
    assert (np.diff(slots[3:]) > 0).all()


@hypothesis.given(
    st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=20), st.integers(1, 5000), st.integers(0, 9)
)
def test_apportion_rounds_the_expectation(weights, total, seed):
    weights = np.array(weights)
    draws = apportion(bit_stream(seed), weights, total)
    assert draws.sum() == total
    assert (np.abs(draws - total * weights / weights.sum()) < 1 + 1e-6).all()


def test_apportion_is_unbiased_and_exact_where_it_can_be():
    weights = np.array([0.5, 0.3, 0.15, 0.05])
    draws = np.stack([apportion(bit_stream(seed), weights, 7) for seed in range(4000)])
    spread = np.sqrt(0.25 / len(draws))  # of a mean of values that differ by one
    assert (np.abs(draws.mean(axis=0) - 7 * weights) < 4 * spread).all()
    counts = np.arange(1, 1000)
    for seed in range(50):
        np.testing.assert_array_equal(apportion(bit_stream(seed), counts, counts.sum()), counts)
