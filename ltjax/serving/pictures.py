"""Picture files as pixels of the size that a network takes, as an evaluation sees them."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ltjax.augment.host import center_crop, resize
from ltjax.augment.opencv import cv2
from ltjax.data.decode import MAX_BYTES, DecodeError, decode
from ltjax.data.files import read_regular
from ltjax.data.scan import SUFFIXES, ignored_words, is_image
from ltjax.errors import InputError, one_line

# Share of the shorter side that evaluation sees.
CROP = 0.875


class UnreadableError(InputError):
    """A file holds no picture that can be decoded."""


def picture_files(
    path: str | Path, *, note: Callable[[str], None] = lambda line: None
) -> list[Path]:
    """Lists the pictures at a path.

    Args:
      path: of a picture, or of a folder, which is searched to the bottom.
      note: is told how many files under the folder are no pictures by their endings.

    Returns:
      The picture itself, or the pictures under the folder, sorted by path.

    Raises:
      InputError: no such path, or no picture in it.
    """
    root = Path(path)
    if not root.exists():
        raise InputError(
            f"--input {one_line(root)} does not exist; give an image, a folder or an .npz file"
        )
    if not root.is_dir():
        return [root]
    files = [Path(folder) / name for folder, _, names in os.walk(root) for name in names]
    found = sorted(path for path in files if is_image(path.name))
    others = Counter(p.suffix.lower() for p in files if not is_image(p.name) and p.name[0] != ".")
    if not found:
        reason = f"; {words}" if (words := ignored_words(others)) else ""
        raise InputError(
            f"--input {one_line(root)} holds no picture ({', '.join(SUFFIXES)}){reason}"
        )
    if others:
        note(f"{one_line(root)}: {ignored_words(others)}")
    return found


def decode_file(path: Path, shape: tuple[int, ...], crop: float = CROP) -> np.ndarray:
    """Decodes a file to the central square that evaluation sees, gray or RGB.

    Args:
      path: of the file.
      shape: `(H, W, C)` of the result, C of 1 or 3.
      crop: share of the shorter side that is kept.

    Returns:
      uint8 `[H, W, C]`.

    Raises:
      UnreadableError: the file cannot be read or decoded.
    """
    height, width, channels = shape
    try:
        data = read_regular(path, most=MAX_BYTES)
        pixels = decode(data, at_least=round(max(height, width) / crop))
    except (OSError, DecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else str(e)
        raise UnreadableError(f"{one_line(path)}: {reason}") from e
    if height == width:
        pixels = center_crop(pixels, height, share=crop)
    pixels = resize(pixels, height, width)
    if channels == 1:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
    return np.ascontiguousarray(pixels)
