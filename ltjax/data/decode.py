"""Encoded picture files as pixels of the size that a network takes."""

import os
from pathlib import Path

import numpy as np

from ltjax.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


class UnreadableError(InputError):
    """A file holds no picture that can be decoded."""


def picture_files(path: str | Path) -> list[Path]:
    """The picture itself, or the pictures under a folder, sorted by path.

    Raises:
      InputError: no such path, or no picture in it.
    """
    root = Path(path)
    if not root.exists():
        raise InputError(f"--input {root} does not exist; give an image, a folder or an .npz file")
    if root.is_file():
        return [root]
    found = sorted(
        Path(folder) / name
        for folder, _, names in os.walk(root)
        for name in names
        if name.lower().endswith(SUFFIXES)
    )
    if not found:
        raise InputError(f"--input {root} holds no picture ({', '.join(SUFFIXES)})")
    return found


def decode_file(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Decodes a file; the central square, resized, grey or RGB: uint8 `[H, W, C]`.

    Args:
      path: file.
      shape: `(H, W, C)`, C of 1 or 3.

    Raises:
      UnreadableError: it cannot be read or decoded.
    """
    import cv2

    flag = cv2.IMREAD_GRAYSCALE if shape[2] == 1 else cv2.IMREAD_COLOR
    try:
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), flag)
    except (OSError, cv2.error) as e:
        raise UnreadableError(f"{path}: {' '.join(str(e).split())}") from e
    if pixels is None:
        raise UnreadableError(f"{path}: no picture that can be decoded")
    if pixels.shape[:2] != shape[:2]:
        side = min(pixels.shape[:2])
        top, left = ((n - side) // 2 for n in pixels.shape[:2])
        pixels = pixels[top : top + side, left : left + side]
        shrinks = side > min(shape[:2])
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        pixels = cv2.resize(pixels, (shape[1], shape[0]), interpolation=way)
    return pixels[..., None] if shape[2] == 1 else np.ascontiguousarray(pixels[..., ::-1])
