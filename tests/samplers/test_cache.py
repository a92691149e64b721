"""The cache of epochs: what stays, threads, and copies."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ltjax.samplers.cache import EpochCache


def test_keeps_the_epochs_nearest_to_the_one_asked_for():
    made = []
    cache = EpochCache(2)
    for epoch in (0, 1, 0, 1, 2, 1, 2, 7, 2, 0):
        assert cache.get(epoch, lambda e: made.append(e) or -e) == -epoch
    assert made == [0, 1, 2, 7, 0]
    assert sorted(cache.epochs) == [0, 2]


def test_threads_make_each_epoch_once():
    made, start = [], threading.Barrier(8)
    cache = EpochCache(3)

    def read(epoch):
        start.wait()
        return cache.get(epoch, lambda e: made.append(e) or e)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, [0, 1, 2, 0, 1, 2, 0, 1])) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert sorted(made) == [0, 1, 2]


def test_a_failure_is_not_kept():
    cache = EpochCache(1)
    with pytest.raises(ZeroDivisionError):
        cache.get(0, lambda epoch: 1 // epoch)
    assert cache.epochs == {}
    assert cache.get(0, str) == "0"


def test_copies_start_empty():
    cache = EpochCache(2)
    cache.get(5, str)
    for other in (copy.copy(cache), pickle.loads(pickle.dumps(cache))):
        assert (other.keep, other.epochs) == (2, {})
