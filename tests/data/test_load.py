"""Reading a data set and making its training part long-tailed."""

import numpy as np
import pytest

from ltjax.data.arrays import digits
from ltjax.data.load import DataConfig, load_splits
from ltjax.data.longtail import largest_head


def splits(**changes):
    return load_splits(DataConfig(**changes))


def test_digits_splits():
    train, test = splits()
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
    train, _ = splits(profile="as_is")
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
    train, test = splits(name="npz", path=str(path))
    if separate_test:
        assert len(test) == 30
    else:
        other = splits()
        np.testing.assert_array_equal(train.images, other.train.images)
        np.testing.assert_array_equal(test.labels, other.test.labels)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test_per_class": 174}, "data.test_per_class = 174"),
        ({"imbalance_factor": 1000.0}, "data.imbalance_factor = 1000"),
        ({"imbalance_factor": 0.5}, "imbalance_factor = 0.5"),
        ({"name": "x"}, "data.name = 'x'"),
        ({"profile": "x"}, "data.profile = 'x'"),
    ],
)
def test_splits_bad_input(changes, words):
    with pytest.raises(ValueError, match=words):
        splits(**changes)
