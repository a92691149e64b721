"""Samplers by name, on made-up and on real labels."""

import warnings

import numpy as np
import pytest

from ltjax.errors import InputError
from ltjax.samplers.labels import index_labels
from ltjax.samplers.registry import SAMPLERS, SamplerConfig, make_sampler
from tests.helpers import SHARED

LABELS = np.repeat(np.arange(4), [30, 12, 6, 3])
LISTS = SHARED / "lists"


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_name_makes_a_sampler(name):
    config = SamplerConfig(name, num_blocks=2)
    sampler, same, other = (
        make_sampler(config, LABELS, 8, seed=seed, epochs=3) for seed in (0, 0, 1)
    )
    assert repr(sampler) == repr(same) != repr(other)
    assert sampler.fingerprint() == same.fingerprint() != other.fingerprint()
    assert "object at" not in repr(sampler)
    assert "np." not in repr(sampler)


# Options that are not the defaults, and how the sampler made of them describes itself.
DESCRIBED = {
    "square_root": ({}, "PowerSampler(images=51, batch_size=8, power=0.5, seed=4)"),
    "progressive": ({}, "ProgressiveSampler(images=51, batch_size=8, epochs=30, seed=4)"),
    "repeat_factor": (
        {"threshold": 0.2},
        "RepeatFactorSampler(images=51, batch_size=8, threshold=0.2, seed=4)",
    ),
    "class_aware": (
        {"images_per_class": 2},
        "ClassAwareSampler(images=51, batch_size=8, images_per_class=2, seed=4)",
    ),
    "b3rs": (
        {"num_blocks": 3, "balance": 0.25, "partition": "images"},
        "B3RS(images=51, batch_size=8, num_blocks=3, balance=0.25, partition='images', seed=4)",
    ),
    "b3rs_bet": (
        {"num_blocks": 2, "every": 3, "fraction": 0.25},
        "embed(PowerSampler(images=51, batch_size=8, power=1.0, seed=4), B3RS(images=51, "
        "batch_size=2, num_blocks=2, balance=0.5, partition='classes', seed=4), every=3, slots=2)",
    ),
}


@pytest.mark.parametrize("name", DESCRIBED)
def test_options_reach_the_sampler(name):
    """The descriptions are part of stored fingerprints, so they are pinned."""
    options, words = DESCRIBED[name]
    made = make_sampler(SamplerConfig(name, **options), LABELS, 8, seed=4, epochs=30)
    assert repr(made) == words


@pytest.mark.parametrize("name", ["x", "auto"])
def test_unknown_name(name):
    with pytest.raises(ValueError, match=f"plan.name = '{name}' is not allowed; use one of inst"):
        make_sampler(SamplerConfig(name), LABELS, 4, seed=0, epochs=1)


@pytest.mark.parametrize("name", SAMPLERS)
def test_classes_without_images_are_named_once_and_never_drawn(name):
    labels = np.repeat([0, 2, 4], [20, 9, 4])
    names = ["ant", "bee", "cat", "dog", "eel", "fox"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        index = index_labels(labels, names)
        sampler = make_sampler(SamplerConfig(name, num_blocks=3), index, 8, seed=0, epochs=3)
    assert [str(w.message) for w in caught] == [
        "no image of classes bee, dog, fox; no sampler draws from it"
    ]
    drawn = np.bincount(labels[np.concatenate([sampler.epoch(e).ravel() for e in range(3)])])
    assert drawn.tolist()[1::2] == [0, 0]
    assert (drawn[[0, 2, 4]] > 0).all()


def imagenet_lt():
    counts = np.loadtxt(LISTS / "imagenet_lt_train_counts.txt", dtype=int)
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))


REAL = {
    "places_lt": (lambda: np.load(LISTS / "places_lt_train_labels.npy"), 62500, 365),
    "imagenet_lt": (imagenet_lt, 115846, 1000),
}


@pytest.mark.skipif(not LISTS.exists(), reason="the real label lists are not there")
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("data", REAL)
def test_real_label_lists(data, name):
    load, images, classes = REAL[data]
    labels = load()
    assert (len(labels), labels.max() + 1) == (images, classes)
    counts = np.bincount(labels)
    sampler = make_sampler(SamplerConfig(name), labels, 512, seed=0, epochs=90)
    rows = sampler.epoch(1)
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
        for block, quota in zip(sampler.blocks, sampler.quotas, strict=True):
            assert np.ptp(drawn[block]) <= 1
            assert (per_batch[:, block].sum(axis=1) == quota).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_only_balanced_samplers_have_an_epoch_of_the_largest_class(name):
    config = SamplerConfig(name, epoch_size="largest_class")
    labels = np.repeat([0, 1], [24, 8])
    if name in ("class_balanced", "class_aware"):
        assert len(make_sampler(config, labels, 8, seed=0, epochs=2)) == 6
        return
    with pytest.raises(InputError, match=r"plan\.epoch_size = 'largest_class' .* class_aware"):
        make_sampler(config, labels, 8, seed=0, epochs=2)
