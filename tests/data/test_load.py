"""Reading a data set and making its training part long-tailed."""

import numpy as np
import pytest

from ltjax.data.arrays import digits
from ltjax.data.load import SOURCES, DataConfig, load_splits
from ltjax.data.longtail import largest_head
from ltjax.data.places import _READ
from ltjax.errors import InputError


def splits(**changes):
    return load_splits(DataConfig(**changes))


def test_digits_splits():
    train, test, *_ = splits()
    assert test.class_counts.tolist() == [50] * 10
    assert train.class_counts.tolist() == [128, 91, 65, 47, 33, 24, 17, 12, 8, 6]
    assert train.images.shape[1:] == (8, 8, 1)
    assert train.images.max() == 255
    known = {image.tobytes() for image in test.images}
    shared = sum(image.tobytes() in known for image in train.images)
    assert shared == 0  # no image of the test part in the training part
    assert splits(seed=1).train.fingerprint() != train.fingerprint()
    assert splits().train.fingerprint() == train.fingerprint()


def test_balanced_profile_keeps_all():
    train = splits(profile="as_is").train
    assert len(train) == 1797 - 500
    assert splits(imbalance_factor=1.0).train.class_counts.tolist() == [124] * 10


def test_head_is_the_largest_that_fits():
    assert largest_head(np.array([100, 100, 100]), 4) == 100
    assert largest_head(np.array([100, 10, 100]), 4) == 21  # int(21 / 2) = 10


@pytest.mark.parametrize("separate_test", [False, True])
def test_npz(tmp_path, separate_test):
    source = digits()
    arrays = {"images": source.images[..., 0], "labels": source.labels.astype(np.uint8)}
    if separate_test:
        arrays |= {"test_images": source.images[:30], "test_labels": source.labels[:30]}
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    train, test, *_ = splits(name="npz", path=str(path))
    if separate_test:
        assert len(test) == 30
    else:
        other = splits()
        np.testing.assert_array_equal(train.images, other.train.images)
        np.testing.assert_array_equal(test.labels, other.test.labels)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test_per_class": 0}, "data.test_per_class = 0"),
        ({"imbalance_factor": 1000.0}, "data.imbalance_factor = 1000"),
        ({"imbalance_factor": 0.5}, "imbalance_factor = 0.5"),
        ({"name": "x"}, "data.name = 'x'"),
        ({"profile": "x"}, "data.profile = 'x'"),
    ],
)
def test_splits_bad_input(changes, words):
    with pytest.raises(ValueError, match=words):
        splits(**changes)


UNREAD = {
    ("npz", "test_path"): "npz; put test_images and test_labels into the file",
    ("npz", "dir"): "npz; leave it out; the data is read from config.data.path",
    ("npz", "validation_path"): "npz; config.data.validation_fraction holds training images out",
    ("digits", "path"): "digits; leave it out$",
    ("folder", "path"): "folder; leave it out; the data is read from config.data.dir",
    ("folder", "test_path"): "folder; put the images into test/CLASS/ of config.data.dir",
    ("parquet", "validation_path"): r"parquet; put validation\*.parquet into config.data.dir",
    ("features", "dir"): "features; leave it out; the data is read from config.data.path and",
    ("cifar10", "test_path"): "cifar10, taken as .*; config.data.test_split names the test split",
    ("npz", "test_split"): "npz; leave it out; splits have names in data sets of TFDS",
    ("list", "train_split"): "list; leave it out; splits have names in data sets of TFDS",
    ("cvs", "path"): "cvs, taken as a data set of TFDS, since it is none of digits, npz, folder",
}


@pytest.mark.parametrize(("name", "key"), UNREAD)
def test_places_that_are_not_read_are_refused(name, key):
    words = rf"^config.data.{key} does not go with data.name = {UNREAD[name, key]}"
    with pytest.raises(InputError, match=words):
        splits(name=name, **{key: "somewhere"})


def test_every_source_says_what_it_reads():
    assert set(_READ) == set(SOURCES)


def saved(tmp_path, **arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    return splits(name="npz", path=str(tmp_path / "data.npz"), profile="as_is", test_per_class=1)


PIXELS = np.arange(6 * 4 * 5 * 3, dtype=np.uint8).reshape(6, 4, 5, 3)
SAME = {
    "floats": (PIXELS / 255, "images: floats from 0 to 1 are taken as 0 to 255"),
    "int64": (PIXELS.astype(np.int64), "images: int64 is stored as uint8"),
    "channels_first": (PIXELS.transpose(0, 3, 1, 2), "images: [6, 3, 4, 5] is taken as [N, C, H"),
}


@pytest.mark.parametrize("case", SAME)
def test_npz_of_other_forms_is_converted_with_a_line(case, tmp_path):
    images, words = SAME[case]
    labels = np.array([0, 0, 0, 1, 1, 1])
    expected = saved(tmp_path, images=PIXELS, labels=labels)
    found = saved(tmp_path, images=images, labels=labels)
    np.testing.assert_array_equal(found.train.images, expected.train.images)
    assert not expected.notes
    assert words in found.notes[0]


def test_npz_with_text_for_labels(tmp_path):
    labels = np.array(["dog", "cat", "dog", "dog", "cat", "ü"])
    found = saved(tmp_path, images=PIXELS, labels=labels)
    assert found.train.class_names == ("cat", "dog", "ü")
    assert found.train.class_counts.tolist() == [1, 2, 1]
    assert "labels: text, taken as the names of 3 classes: cat, dog, ü" in found.notes
    arrays = {"images": PIXELS, "labels": labels, "test_images": PIXELS[:1]}
    with pytest.raises(ValueError, match=r"test_labels has 'cow', which is none of the classes"):
        saved(tmp_path, **arrays | {"test_labels": np.array(["cow"])})


def test_npz_with_gaps_in_the_labels(tmp_path):
    found = saved(tmp_path, images=PIXELS, labels=np.array([0, 0, 0, 3, 3, 3]))
    assert found.train.class_counts.tolist() == [2, 0, 0, 2]
    assert found.notes == ("labels: no image has the label of class 1, 2; it is never predicted",)


def test_npz_that_does_not_exist():
    with pytest.raises(ValueError, match=r"data.path = 'nowhere.npz' does not exist"):
        splits(name="npz", path="nowhere.npz")
