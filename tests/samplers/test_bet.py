"""BET's sampler: where the embedded slots are, and what the others read."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from ltjax.samplers.b3rs import B3RS
from ltjax.samplers.baselines import PowerSampler
from ltjax.samplers.bet import embed, embedded_slots

LABELS = np.repeat(np.arange(4), [30, 12, 6, 3])


@hypothesis.given(
    st.integers(1, 9),
    st.sampled_from([0.125, 0.25, 0.5, 1.0]),
    st.integers(0, 6),
    st.integers(0, 3),
)
def test_slots_and_both_streams(every, fraction, epoch, seed):
    slots = embedded_slots(8, fraction)
    regular = PowerSampler(LABELS, 8, power=1, seed=seed)
    balanced = B3RS(LABELS, slots, num_blocks=min(2, slots), seed=seed + 50)
    sampler = embed(regular, balanced, every=every, fraction=fraction)
    steps = sampler.steps_per_epoch
    assert steps == regular.steps_per_epoch
    rows, stop = [], (epoch + 1) * steps
    for step in range(stop):
        flags = sampler.flags(step)
        hit = (step + 1) % every == 0
        assert flags.tolist() == [False] * (8 - slots * hit) + [True] * (slots * hit)
        if hit:
            np.testing.assert_array_equal(sampler[step][flags], balanced[step // every])
        rows.append(sampler[step][~flags])
    # All regular slots so far, joined, are the regular sampler read as one stream.
    joined = np.concatenate(rows)
    np.testing.assert_array_equal(joined, regular.rows(0, stop).ravel()[: len(joined)])
    # Random access agrees with reading in order, and shards with their flags.
    fresh = embed(regular, balanced, every=every, fraction=fraction)
    np.testing.assert_array_equal(fresh.epoch(epoch), sampler.rows(stop - steps, stop))
    shards = [fresh.shard(i, 4) for i in range(4)]
    np.testing.assert_array_equal(
        np.concatenate([s.flags(stop - 1) for s in shards]), sampler.flags(stop - 1)
    )


def test_every_step_and_whole_batches_give_the_balanced_sampler():
    balanced = B3RS(LABELS, 8, num_blocks=2, seed=1)
    sampler = embed(PowerSampler(LABELS, 8, power=1, seed=0), balanced, every=1, fraction=1.0)
    for epoch in (0, 3):
        np.testing.assert_array_equal(sampler.epoch(epoch), balanced.epoch(epoch))
    assert sampler.flags(3).all()


def test_default_is_half_of_every_batch():
    regular = PowerSampler(LABELS, 8, power=1, seed=0)
    sampler = embed(regular, B3RS(LABELS, embedded_slots(8), num_blocks=2, seed=1))
    assert sampler.flags(0).tolist() == sampler.flags(1).tolist() == [False] * 4 + [True] * 4


GOLDEN = [[3, 9, 0, 9, 1], [4, 7, 8, 1, 5]]


def test_golden_list():
    """The second epoch of one seed, pinned: a change of it changes every stored run."""
    labels = np.array([0, 2, 0, 1, 0, 1, 0, 2, 1, 0])
    regular = PowerSampler(labels, 5, power=1, seed=7)
    balanced = B3RS(labels, 2, num_blocks=2, seed=7)
    assert embed(regular, balanced, every=2, fraction=0.4).epoch(1).tolist() == GOLDEN


def whole_batches(every=1, fraction=1.0):
    regular = PowerSampler(LABELS, 4, power=1, seed=0)
    return embed(regular, B3RS(LABELS, 4, num_blocks=2, seed=0), every=every, fraction=fraction)


BAD = {
    "fraction 0": (lambda: embedded_slots(8, 0.0), "fraction = 0.0"),
    "fraction 1.1": (lambda: embedded_slots(8, 1.1), "fraction = 1.1"),
    "fraction nan": (lambda: embedded_slots(8, np.nan), "fraction = nan"),
    "every 0": (lambda: whole_batches(every=0), "every = 0"),
    "every 1.5": (lambda: whole_batches(every=1.5), "every = 1.5"),
    "slots": (
        lambda: whole_batches(fraction=0.5),
        r"balanced.batch_size = 4 is not allowed; use 2, that is fraction 0.5 of 4",
    ),
    "step": (lambda: whole_batches().flags(-1), "step = -1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_names_the_value(case):
    make, words = BAD[case]
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)
