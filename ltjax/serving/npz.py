"""Images of an `.npz` file one by one, and their labels."""

import contextlib
from collections.abc import Iterator

import numpy as np

from ltjax.data.npz import NpzError, NpzFile, open_npz
from ltjax.errors import InputError, require, visible


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


def read_labels(path: str) -> list[str | int] | None:
    """The labels beside the images of an `.npz` file.

    Args:
      path: file with `images`; `labels`, one for each, and `class_names` if it has any.

    Returns:
      The name of each image's class, or its number where classes have no names; None where there
      are no labels.

    Raises:
      InputError: labels that are not one integer for each image.
    """
    try:
        with open_npz(path, ("images", "labels", "class_names")) as npz:
            if "labels" not in npz.headers:
                return None
            count = npz.headers["images"].shape[0] if "images" in npz.headers else 0
            labels = npz.read("labels")
            names = npz.read("class_names") if "class_names" in npz.headers else None
    except NpzError as e:
        raise InputError(f"--input {path} cannot be read ({e})") from e
    one_each = labels.shape == (count,) and labels.dtype.kind in "iu"
    require(one_each, f"labels of {path}", labels.shape, f"one integer for each of {count} images")
    if names is None:
        return list(labels.tolist())
    require(
        labels.min(initial=0) >= 0 and labels.max(initial=0) < len(names),
        f"labels of {path}",
        int(labels.max(initial=0)),
        f"labels from 0 to {len(names) - 1}",
    )
    return [visible(str(names[label])) for label in labels]


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
