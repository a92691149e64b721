"""Images of an `.npz` file one by one."""

import contextlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

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
    require(Path(path).is_file(), "--input", path, "the path of an .npz file")
    with _images_member(path) as member:
        found, fortran, dtype = _npy_header(member)
    require(
        len(found) in (3, 4) and dtype == np.uint8 and not fortran,
        f"images of {path}",
        f"{dtype} {found}{' in Fortran order' if fortran else ''}",
        "uint8 [N, H, W] or [N, H, W, C]",
    )
    own = (*found[1:], 1) if len(found) == 3 else found[1:]
    require(own == shape, f"images of {path}", own, f"images {shape}")
    return _images_of(path, found[0], shape)


def _images_of(path: str, count: int, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    size = int(np.prod(shape))
    with _images_member(path) as member:
        _npy_header(member)
        for _ in range(count):
            yield np.frombuffer(member.read(size), np.uint8).reshape(shape)


def _npy_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    return np.lib.format.read_array_header_2_0(member)


@contextlib.contextmanager
def _images_member(path: str) -> Iterator[IO[bytes]]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open("images.npy") as member:
            yield member
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as e:
        if isinstance(e, InputError):
            raise
        raise InputError(
            f"--input {path} holds no array images ({' '.join(str(e).split())}); "
            "write it with numpy.savez(path, images=...)"
        ) from e
