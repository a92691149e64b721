"""Images of an `.npz` file one by one."""

import contextlib
from collections.abc import Iterator

import numpy as np

from ltjax.data.npz import NpzError, NpzFile, open_npz
from ltjax.errors import InputError, require


def stream_images(path: str, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The images of an `.npz` file one by one; labels are not needed.

    Only one image is in memory at a time, also of a compressed file.

    Args:
      path: file with `images`, uint8 `[N, H, W]` or `[N, H, W, C]`.
      shape: `(H, W, C)` that they must have.

    Returns:
      An iterator over the images, uint8 `[H, W, C]`.

    Raises:
      InputError: no such file, no such array in it, or images of another shape; while the iterator
        is used, a file that is cut off.
    """
    with _open(path) as npz:
        header = npz.headers["images"]
    found, fortran = header.shape, " in Fortran order" if header.fortran else ""
    require(
        len(found) in (3, 4) and header.dtype == np.uint8 and not fortran,
        f"images of {path}",
        f"{header.dtype} {found}{fortran}",
        "uint8 [N, H, W] or [N, H, W, C]",
    )
    own = (*found[1:], 1) if len(found) == 3 else found[1:]
    require(own == shape, f"images of {path}", own, f"images {shape}")
    return _images_of(path, found[0], shape)


def _images_of(path: str, count: int, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    size = int(np.prod(shape))
    with _open(path) as npz, npz.stream("images") as stream:
        for _ in range(count):
            yield np.frombuffer(stream.read(size), np.uint8).reshape(shape)
        stream.read(1)  # the end, where the checksum is compared


@contextlib.contextmanager
def _open(path: str) -> Iterator[NpzFile]:
    try:
        with open_npz(path, ("images",)) as npz:
            if "images" not in npz.headers:
                raise NpzError("it has no array of this name")
            yield npz
    except NpzError as e:
        raise InputError(
            f"--input {path} holds no array images ({e}); "
            "write it with numpy.savez(path, images=...)"
        ) from e
