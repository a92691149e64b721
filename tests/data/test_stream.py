"""Streams: the same batches for any workers, any start and any hosts; damaged images."""

import multiprocessing
import os
import signal

import numpy as np
import pytest

from ltjax.augment.host import HostAugment
from ltjax.data.arrays import digits
from ltjax.data.folder import read_folder
from ltjax.data.loader import (
    StreamSettings,
    TrainLoader,
    eval_batches,
    is_resident,
)
from ltjax.data.sources import ArraySource
from ltjax.data.statistics import pixel_statistics
from ltjax.data.stream import LoadBatch, Stream, as_encoded, batches_in_order, decode_all
from ltjax.errors import InputError
from ltjax.samplers import PowerSampler
from tests.data.pictures import picture, write_folder

AUGMENT = HostAugment(jitter=0.4)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = write_folder(tmp_path_factory.mktemp("set"), {"a": 9, "b": 5, "c": 3})
    return read_folder(str(root), size=16)


def stream(source, *, workers=0, host=0, hosts=1, skip=False, augment=AUGMENT):
    batches = PowerSampler(source.labels, 8, power=0, seed=3).shard(host, hosts).schedule(4)
    return Stream(batches, LoadBatch(source, augment, 7, skip, host, hosts), workers=workers)


@pytest.mark.slow
def test_batches_do_not_depend_on_workers_or_on_a_resume(source):
    alone = stream(source)
    expected = [alone[i] for i in range(7)]
    assert expected[0].shape == (8, 16, 16, 3)
    assert (expected[0] != expected[1]).any()
    for workers in (0, 1, 2):
        other = stream(source, workers=workers)
        for i in (2, 3, 4, 5, 6):  # steps_per_epoch is 3: a start in the middle of an epoch
            np.testing.assert_array_equal(other[i], expected[i])
        other.close()


def kill_workers():
    workers = multiprocessing.active_children()
    assert workers
    for worker in workers:
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()


@pytest.mark.slow
def test_a_batch_whose_worker_was_killed_is_loaded_again(source):
    alone, other = stream(source), stream(source, workers=1)
    for i in range(10):
        np.testing.assert_array_equal(other[i], alone[i])
        if i == 0:
            kill_workers()
        if i == 4 and multiprocessing.active_children():  # it may have read all batches by then
            kill_workers()
    other.close()


@pytest.mark.slow
def test_workers_that_are_killed_again_and_again_are_one_line(source, monkeypatch):
    monkeypatch.setattr("ltjax.data.stream.MOST_LOST", 0)
    other = stream(source, workers=1)
    other[0]
    kill_workers()
    with pytest.raises(InputError, match=r"killed 1 times.*use data.workers = 0") as caught:
        [other[i] for i in range(1, 10)]
    assert "\n" not in str(caught.value)


def test_any_order(source):
    there, back = stream(source), stream(source)
    forward = {i: there[i] for i in (0, 1, 5)}
    for i in (5, 0, 1):
        np.testing.assert_array_equal(back[i], forward[i])


def test_hosts_load_their_rows(source):
    whole, hosts = stream(source), [stream(source, host=h, hosts=2) for h in (0, 1)]
    for i in (0, 4):
        joined = np.concatenate([host[i] for host in hosts])
        np.testing.assert_array_equal(joined, whole[i])


def test_augmentation_differs_by_seed_place_and_step(source):
    load = LoadBatch(source, AUGMENT, 0, False)
    twice = np.array([4, 4])
    first = load(0, twice).images
    assert (first[0] != first[1]).any()
    assert (load(4, twice).images[0] != first[0]).any()
    assert (LoadBatch(source, AUGMENT, 1, False)(0, twice).images[0] != first[0]).any()


def test_evaluation_sees_every_image_once(source):
    settings = StreamSettings(threads=1)
    batches = list(eval_batches(source.labels, 8, source, settings))
    assert [b.images.shape[0] for b in batches] == [8, 8, 8]
    images = np.concatenate([b.images[b.mask] for b in batches])
    np.testing.assert_array_equal(images, np.stack([source.view(i) for i in range(17)]))


def test_streamed_arrays_are_the_resident_ones():
    array = digits().subset(np.arange(50))
    sampler = PowerSampler(array.labels, 8, power=1, seed=0)
    settings = StreamSettings(threads=1)
    streamed = TrainLoader(array, sampler, 2, augment=HostAugment((1.0, 1.0)), settings=settings)
    for step in (0, 3):
        batch = streamed[step]
        np.testing.assert_array_equal(batch.images, array.images[batch.indices])
    streamed.close()


@pytest.mark.parametrize(("threads", "host", "hosts"), [(1, 0, 1), (4, 0, 1), (2, 1, 2)])
def test_an_epoch_of_a_streamed_run_is_drawn_once(source, threads, host, hosts):
    """The labels and the images of a batch come from one draw, also if threads are epochs ahead."""
    sampler = PowerSampler(source.labels, 8, power=0, seed=3)  # 3 steps in an epoch
    drawn, own = [], sampler.epoch
    sampler.epoch = lambda number: drawn.append(number) or own(number)
    settings = StreamSettings(threads=threads, host=host, hosts=hosts)
    loader = TrainLoader(source, sampler, 6, augment=AUGMENT, settings=settings)
    batches = [loader[step] for step in range(18)]
    loader.close()
    assert sorted(drawn) == list(range(6))
    expected = np.concatenate([own(epoch) for epoch in range(6)])
    np.testing.assert_array_equal([batch.indices for batch in batches], expected)
    assert batches[0].images.shape == (8 // hosts, 16, 16, 3)


def test_hosts_evaluate_their_part(source):
    whole = list(eval_batches(source.labels, 8, source, StreamSettings(threads=1)))
    parts = [
        list(eval_batches(source.labels, 8, source, StreamSettings(threads=1, host=host, hosts=2)))
        for host in (0, 1)
    ]
    for batch, first, second in zip(whole, *parts, strict=True):
        joined = np.concatenate([first.images, second.images])
        np.testing.assert_array_equal(joined, batch.images)
        np.testing.assert_array_equal(first.indices, batch.indices)


def test_decode_all_and_statistics(source):
    array, damaged = decode_all(source, skip_corrupt=False, threads=2)
    assert damaged == {}
    assert isinstance(array, ArraySource)
    np.testing.assert_array_equal(array.images[3], source.view(3))
    for ours, exact in zip(pixel_statistics(source), pixel_statistics(array), strict=True):
        np.testing.assert_allclose(ours, exact, rtol=1e-6)


@pytest.fixture
def damaged(tmp_path):
    root = write_folder(tmp_path, {"a": 4, "b": 4})
    (root / "a" / "1.jpg").write_bytes(b"nothing")
    return read_folder(str(root), size=16)


def test_a_damaged_image_stops_with_its_name(damaged):
    sampler = PowerSampler(damaged.labels, 8, power=1, seed=0)  # all images in a batch
    whole = Stream(sampler, LoadBatch(damaged, AUGMENT, 0, False))
    with pytest.raises(ValueError, match=r"a/1.jpg cannot be read: .*data.skip_corrupt = True"):
        whole[0]


def test_a_damaged_image_is_replaced_by_the_next_of_its_class(damaged):
    loaded = LoadBatch(damaged, None, 0, True)(0, np.array([0, 1, 2]))
    np.testing.assert_array_equal(loaded.images[1], damaged.view(2))
    assert len(loaded.damaged) == 1
    running = stream(damaged, skip=True)
    for i in range(3):
        running[i]
    (reason,) = running.damaged
    assert "a/1.jpg" in reason
    assert running.damaged[reason] >= 1


def test_a_class_of_damaged_images_alone(damaged, tmp_path):
    for i in range(4):
        (tmp_path / "a" / f"{i}.jpg").write_bytes(b"nothing")
    running = Stream(np.array([[5, 0]]), LoadBatch(damaged, None, 0, True))
    with pytest.raises(InputError, match=r"all 4 images of class 'a' are damaged"):
        running[0]


@pytest.mark.parametrize(("broken", "refused"), [(4, False), (5, True)])
def test_more_than_half_of_the_images_damaged(tmp_path, broken, refused):
    root = write_folder(tmp_path, {"a": 4, "b": 4})
    for i in range(broken):
        (root / "ab"[i % 2] / f"{i // 2}.jpg").write_bytes(b"nothing")
    source = read_folder(str(root), size=16)
    if refused:
        with pytest.raises(InputError, match="5 of 8 images are damaged"):
            decode_all(source, skip_corrupt=True, threads=1)
    else:
        assert len(decode_all(source, skip_corrupt=True, threads=1)[1]) == broken


def test_a_damaged_image_is_counted_once(tmp_path):
    root = write_folder(tmp_path, {"a": 3, "b": 3})
    (root / "a" / "0.jpg").write_bytes(b"nothing")  # the image that pads batches
    _, counts = decode_all(read_folder(str(root), size=16), skip_corrupt=True, threads=1)
    assert list(counts.values()) == [1]


def test_residency():
    small = digits()
    assert is_resident("auto", small, 1797, 1, False)
    assert not is_resident("auto", small, 10**6, 1, False)
    assert not is_resident("auto", small, 1797, 1, True)
    assert not is_resident("streamed", small, 1797, 1, False)
    with pytest.raises(ValueError, match=r"does not go with augment.crop_area"):
        is_resident("resident", small, 1, 1, True)


def test_gray_arrays_among_colors():
    images = np.repeat(picture(16, 16)[None], 3, axis=0)
    source = as_encoded(ArraySource(images, np.array([0, 1, 2]), ("a", "b", "c")))
    loaded = Stream(batches_in_order(3, 2)[0], LoadBatch(source, None, 0, False))
    np.testing.assert_array_equal(loaded[0], images[:2])
