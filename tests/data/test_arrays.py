"""The digits and `.npz` files."""

import numpy as np
import pytest

from ltjax.data import arrays
from ltjax.data.arrays import digits, read_npz


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


@pytest.mark.parametrize("found", [True, False])
def test_digits_are_scikit_learns(found, monkeypatch):
    from sklearn.datasets import load_digits

    if not found:  # scikit-learn keeps its file elsewhere
        monkeypatch.setattr(arrays.importlib.util, "find_spec", lambda name: None)
    source, expected = digits(), load_digits()
    np.testing.assert_array_equal(source.labels, expected.target)
    assert source.images.dtype == np.uint8
    np.testing.assert_allclose(source.images[..., 0], expected.images * (255 / 16), atol=0.5)


def test_numbers_of_the_test_part_are_no_places_of_names(tmp_path):
    images, path = np.zeros((3, 4, 4), np.uint8), tmp_path / "x.npz"
    parts = {"images": images, "labels": np.array(["dog", "cat", "dog"]), "test_images": images}
    np.savez(path, **parts, test_labels=np.array([0, 1, 0]))
    with pytest.raises(ValueError, match="test labels are numbers and training labels are names"):
        read_npz(str(path))
    np.savez(path, **parts, test_labels=np.array([0, 1, 0]), class_names=["dog", "cat"])
    train, test = read_npz(str(path))
    assert train.labels.tolist() == test.labels.tolist() == [0, 1, 0]
