"""Samplers as sequences: steps, epochs, schedules, shards, flags, and grain's view of them."""

import collections.abc
import pickle
from concurrent.futures import ThreadPoolExecutor

import grain
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from ltjax.samplers.b3rs import B3RS
from ltjax.samplers.base import BatchSampler
from ltjax.samplers.baselines import PowerSampler
from ltjax.samplers.bet import embed
from tests.samplers.cases import samplers

pytestmark = pytest.mark.filterwarnings("ignore:no image of class")
LABELS = np.repeat(np.arange(4), [30, 12, 6, 3])


def b3rs(batch_size=8, seed=0):
    return B3RS(LABELS, batch_size, num_blocks=2, seed=seed)


def bet():
    return embed(PowerSampler(LABELS, 8, power=1, seed=0), b3rs(4), every=2)


@hypothesis.given(samplers(), st.integers(1, 3))
def test_steps_epochs_and_schedules_agree(sampler, epochs):
    steps = len(sampler)
    expected = np.concatenate([sampler.epoch(e) for e in range(epochs)])
    np.testing.assert_array_equal([sampler[step] for step in range(epochs * steps)], expected)
    np.testing.assert_array_equal(sampler.rows(1, epochs * steps), expected[1:])
    np.testing.assert_array_equal(list(sampler), expected[:steps])
    schedule = sampler.schedule(epochs)
    assert len(schedule) == epochs * steps
    np.testing.assert_array_equal(list(schedule), expected)
    np.testing.assert_array_equal(list(reversed(schedule)), expected[::-1])
    np.testing.assert_array_equal(schedule[-1], expected[-1])
    for beyond in (len(schedule), -len(schedule) - 1):
        with pytest.raises(IndexError):
            schedule[beyond]


def test_batches_are_int64_and_not_writable():
    for source in (b3rs(), b3rs().schedule(2), b3rs().shard(1, 2)):
        batch = source[np.int32(3)]
        assert batch.dtype == np.int64
        with pytest.raises(ValueError, match="read-only"):
            batch[0] = 0
    assert b3rs().epoch(0).flags.writeable


def test_an_epoch_is_drawn_once_by_many_threads():
    sampler, drawn = b3rs(), []
    own = sampler.epoch
    sampler.epoch = lambda number: drawn.append(number) or own(number)
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(sampler.__getitem__, range(2 * len(sampler))))
    np.testing.assert_array_equal(rows, np.concatenate([own(0), own(1)]))
    assert sorted(drawn) == [0, 1]


def test_a_pickled_sampler_draws_the_same_and_carries_no_epoch():
    sampler = bet()
    before = len(pickle.dumps(sampler))
    expected = sampler[9]
    content = pickle.dumps(sampler)
    assert len(content) == before
    np.testing.assert_array_equal(pickle.loads(content)[9], expected)


@hypothesis.given(samplers(), st.data())
def test_shards_partition_the_batch(sampler, data):
    divisors = [k for k in range(1, sampler.batch_size + 1) if sampler.batch_size % k == 0]
    count = data.draw(st.sampled_from(divisors))
    shards = [sampler.shard(i, count) for i in range(count)]
    joined = np.concatenate([s.epoch(1) for s in shards], axis=1)
    np.testing.assert_array_equal(joined, sampler.epoch(1))
    step = len(sampler)
    np.testing.assert_array_equal(np.concatenate([s[step] for s in shards]), sampler[step])
    assert [s.batch_size for s in shards] == [sampler.batch_size // count] * count
    assert [len(s) for s in shards] == [step] * count


def test_shards_have_their_part_of_the_flags_and_share_an_epoch():
    sampler = bet()
    shards = [sampler.shard(i, 4) for i in range(4)]
    flags = np.concatenate([s.flags(1) for s in shards])
    np.testing.assert_array_equal(flags, [False] * 4 + [True] * 4)
    drawn, own = [], sampler.epoch
    sampler.epoch = lambda number: drawn.append(number) or own(number)
    for shard in shards:
        shard[0]
    assert drawn == [0]


def test_shards_and_schedules_describe_themselves():
    assert repr(b3rs().shard(1, 2)) == f"{b3rs()!r}.shard(1, 2)"
    assert repr(b3rs().schedule(3)) == f"{b3rs()!r}.schedule(3)"


def test_a_sampler_defines_epoch_and_repr():
    class Half(BatchSampler):
        def epoch(self, epoch):
            return np.zeros((1, 1), np.int64)

    with pytest.raises(TypeError, match="abstract"):
        Half(1, 1)


# Samplers under grain.
@pytest.mark.parametrize("make", [b3rs, bet])
def test_grain_reads_an_epoch_of_a_sampler(make):
    dataset = grain.MapDataset.source(make())
    assert len(dataset) == len(make())
    np.testing.assert_array_equal(list(dataset.to_iter_dataset()), make().epoch(0))


def test_grain_repeats_the_first_epoch():
    """Why there are schedules: grain takes an index modulo the length of its source."""
    repeated = grain.MapDataset.source(b3rs()).repeat(2)
    epoch = b3rs().epoch(0)
    np.testing.assert_array_equal(list(repeated), np.concatenate([epoch, epoch]))


@pytest.mark.parametrize("threads", [0, 4])
def test_grain_reads_every_epoch_of_a_schedule(threads):
    sampler, drawn = bet(), []
    own = sampler.epoch
    sampler.epoch = lambda number: drawn.append(number) or own(number)
    dataset = grain.MapDataset.source(sampler.schedule(3))
    dataset = dataset.map_with_index(lambda step, rows: (LABELS[rows], sampler.flags(step)))
    # No more steps at once than an epoch has: then two epochs in the cache are enough.
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    labels, flags = zip(*dataset.to_iter_dataset(options), strict=True)
    expected = np.concatenate([own(e) for e in range(3)])
    np.testing.assert_array_equal(labels, LABELS[expected])
    np.testing.assert_array_equal(flags, [sampler.flags(s) for s in range(len(expected))])
    assert sorted(drawn) == [0, 1, 2]


def test_grain_resumes_from_a_step():
    dataset = grain.MapDataset.source(b3rs().schedule(3))[10:]
    np.testing.assert_array_equal(next(iter(dataset)), b3rs()[10])


def test_hosts_read_their_shards():
    hosts = [grain.MapDataset.source(b3rs().shard(i, 2).schedule(2)) for i in (0, 1)]
    np.testing.assert_array_equal(np.concatenate([h[9] for h in hosts]), b3rs()[9])


def test_iteration_ends():
    assert isinstance(b3rs(), collections.abc.Iterable)
    assert sum(1 for _ in b3rs()) == len(b3rs())
    assert sum(1 for _ in b3rs().schedule(4)) == 4 * len(b3rs())


BAD = {
    "shards": (
        lambda: b3rs(4).shard(0, 3),
        "shard count = 3 is not allowed; use a divisor of the batch size 4",
    ),
    "shard": (lambda: b3rs().shard(2, 2), "shard index = 2"),
    "step": (lambda: b3rs()[-1], "step = -1 is not allowed; use an integer >= 0"),
    "slice": (lambda: b3rs()[0:2], r"step = slice\(0, 2, None\)"),
    "step's flags": (lambda: b3rs().flags(-1), "step = -1"),
    "epochs": (lambda: b3rs().schedule(0), "epochs = 0 is not allowed; use an integer >= 1"),
    "step of a shard": (lambda: b3rs().shard(0, 2)[1.5], "step = 1.5"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_names_the_value(case):
    make, words = BAD[case]
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)
