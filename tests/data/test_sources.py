"""The digits, npz files and the long-tailed splits."""

import numpy as np
import pytest

from ltjax.data import sources
from ltjax.data.load import DataConfig, load_splits
from ltjax.data.longtail import largest_head
from ltjax.data.sources import ArraySource, digits, read_npz


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


def test_npz_bad_input(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere.npz"):
        read_npz(str(tmp_path / "nowhere.npz"))
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(ValueError, match=r"cannot be read as .npz"):
        read_npz(str(broken))
    text = tmp_path / "text.npz"
    text.write_text("hello")
    with pytest.raises(ValueError, match=r"cannot be read as .npz"):
        read_npz(str(text))
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, images=np.array([{}], dtype=object), labels=np.array([0]))
    with pytest.raises(ValueError, match=r"cannot be read as .npz"):
        read_npz(str(pickled))
    partial = tmp_path / "partial.npz"
    np.savez(partial, images=np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="lacks the array 'labels'"):
        read_npz(str(partial))


def test_array_source_bad_input():
    images, labels = np.zeros((2, 4, 4, 1), np.uint8), np.array([0, 1])
    with pytest.raises(ValueError, match="images = 'float32"):
        ArraySource(images.astype(np.float32), labels, ("a", "b"))
    with pytest.raises(ValueError, match="one label for each"):
        ArraySource(images, labels[:1], ("a", "b"))
    with pytest.raises(ValueError, match="labels from 0 to 0"):
        ArraySource(images, labels, ("a",))


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


@pytest.mark.parametrize("found", [True, False])
def test_digits_are_scikit_learns(found, monkeypatch):
    from sklearn.datasets import load_digits

    if not found:  # scikit-learn keeps its file elsewhere
        monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    source, expected = digits(), load_digits()
    np.testing.assert_array_equal(source.labels, expected.target)
    assert source.images.dtype == np.uint8
    np.testing.assert_allclose(source.images[..., 0], expected.images * (255 / 16), atol=0.5)
