"""Batches, augmentation and normalization."""

import jax
import numpy as np

from ltjax.augment.device import random_shift
from ltjax.data.loader import eval_batches, gather, train_batch
from ltjax.samplers import PowerSampler


def test_train_batch_is_a_function_of_the_step():
    labels = np.repeat(np.arange(3), [9, 4, 2])
    sampler = PowerSampler(labels, 6, power=1, seed=0)
    batch = train_batch(sampler, labels, 4)
    np.testing.assert_array_equal(batch.indices, sampler[4])
    np.testing.assert_array_equal(batch.labels, labels[sampler[4]])
    assert batch.mask.all()
    assert not batch.embedded.any()


def test_evaluation_sees_every_image_once():
    labels = np.arange(23) % 3
    batches = list(eval_batches(labels, 8))
    assert [len(b.indices) for b in batches] == [8, 8, 8]
    seen = np.concatenate([b.indices[b.mask] for b in batches])
    np.testing.assert_array_equal(seen, np.arange(23))
    np.testing.assert_array_equal(np.concatenate([b.labels[b.mask] for b in batches]), labels)


def test_gather():
    images = np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2, 1)
    labels = np.arange(5)
    batch = train_batch(PowerSampler(labels, 3, power=1, seed=0), labels, 0)
    np.testing.assert_array_equal(gather(jax.numpy.asarray(images), batch), images[batch.indices])


def test_random_shift_shifts():
    image = np.zeros((1, 5, 5, 1), np.uint8)
    image[0, 2, 2, 0] = 7
    images = jax.numpy.asarray(np.repeat(image, 64, axis=0))
    keys = jax.random.split(jax.random.key(0), 64)
    out = np.asarray(random_shift(images, keys, 1))
    assert out.dtype == np.uint8
    places = {tuple(np.argwhere(o[..., 0] == 7)[0]) for o in out}
    assert places == {(i, j) for i in (1, 2, 3) for j in (1, 2, 3)}
    np.testing.assert_array_equal(random_shift(images, keys, 0), images)
