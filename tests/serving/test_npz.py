"""Images of an `.npz` file one by one."""

from pathlib import Path

import numpy as np
import pytest

from ltjax.errors import InputError
from ltjax.serving.npz import stream_images


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("channels", [None, 3])
def test_images_one_by_one(save, channels, tmp_path):
    shape = (7, 4, 5) if channels is None else (7, 4, 5, channels)
    images = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    path = str(tmp_path / "a.npz")
    save(path, labels=np.zeros(7), images=images)
    read = list(stream_images(path, (4, 5, channels or 1)))
    np.testing.assert_array_equal(np.stack(read), images.reshape(7, 4, 5, -1))


def test_images_that_cannot_be_read(tmp_path):
    path = str(tmp_path / "a.npz")
    image = np.zeros((2, 4, 5, 3), np.uint8)
    for arrays, reason in (
        ({"pictures": image}, "holds no array images"),
        ({"images": image.astype(float)}, "float64"),
        ({"images": np.asfortranarray(image)}, "Fortran"),
        ({"images": image[:, :3]}, r"images \(4, 5, 3\)"),
        ({"images": np.array([{}])}, "object"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(InputError, match=reason):
            stream_images(path, (4, 5, 3))
    large = np.random.default_rng(0).integers(256, size=(500, 4, 5, 3), dtype=np.uint8)
    np.savez(path, images=large)
    whole = bytearray(Path(path).read_bytes())
    whole[10_000:10_004] = b"bad!"
    Path(path).write_bytes(whole)
    with pytest.raises(InputError, match="holds no array images"):
        list(stream_images(path, (4, 5, 3)))
