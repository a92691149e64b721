"""Epochs drawn ahead: the sampler's own, once each, on another thread."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ltjax.samplers.b3rs import B3RS
from ltjax.samplers.baselines import PowerSampler
from ltjax.samplers.prefetch import PrefetchSampler

LABELS = np.repeat(np.arange(3), [9, 4, 2])


def counted(sampler):
    """The calls of its `epoch`, from now on: numbers and threads; and what it drew before."""
    calls, own = [], sampler.epoch

    def epoch(number):
        calls.append((number, threading.current_thread().name))
        return own(number)

    sampler.epoch = epoch
    return calls, own


def test_draws_ahead_on_another_thread():
    sampler = B3RS(LABELS, 4, num_blocks=2, seed=0)
    calls, own = counted(sampler)
    ahead = PrefetchSampler(sampler, 3)
    rows = [ahead[step] for step in range(5, 3 * len(sampler))]  # as after a resume
    ahead.close()
    expected = np.concatenate([own(e) for e in range(3)])[5:]
    np.testing.assert_array_equal(rows, expected)
    assert [number for number, _ in calls] == [1, 2]
    assert all(name.startswith("sampler") for _, name in calls)
    assert ahead.fingerprint() == sampler.fingerprint()
    assert repr(ahead) == repr(sampler)


@pytest.mark.parametrize("lag", [0, 1, 3, 4, 11])
def test_readers_that_lag_draw_nothing_again(lag):
    sampler = PowerSampler(LABELS, 5, power=1, seed=0)  # 3 steps in an epoch
    calls, _ = counted(sampler)
    ahead = PrefetchSampler(sampler, 9, lag=lag)
    for step in range(27):
        np.testing.assert_array_equal(ahead[step], ahead.rows(step, step + 1)[0])
        if step >= lag:
            ahead[step - lag]
    ahead.close()
    assert [number for number, _ in calls] == list(range(9))


def test_shards_and_threads_share_what_is_drawn():
    sampler = PowerSampler(LABELS, 4, power=0, seed=0)
    calls, own = counted(sampler)
    ahead = PrefetchSampler(sampler, 5, lag=20)
    first, second = (ahead.shard(host, 2).schedule(5) for host in (0, 1))
    with ThreadPoolExecutor(8) as pool:
        halves = [list(pool.map(part.__getitem__, range(20))) for part in (first, second)]
    ahead.close()
    expected = np.concatenate([own(e) for e in range(5)])
    np.testing.assert_array_equal(np.concatenate(halves, axis=1), expected)
    assert sorted(number for number, _ in calls) == list(range(5))


def test_passes_errors_on():
    sampler = PowerSampler(np.array([0, 1]), 2, power=1, seed=0)
    sampler.epoch = lambda number: 1 // 0
    ahead = PrefetchSampler(sampler, 3)
    with pytest.raises(ZeroDivisionError):
        ahead[0]
    ahead.close()


def test_bad_input_names_the_value():
    sampler = PowerSampler(LABELS, 4, power=0, seed=0)
    with pytest.raises(ValueError, match="epochs = 0 is not allowed; use an integer >= 1"):
        PrefetchSampler(sampler, 0)
    with pytest.raises(ValueError, match="lag = -1 is not allowed; use an integer >= 0"):
        PrefetchSampler(sampler, 1, lag=-1)
