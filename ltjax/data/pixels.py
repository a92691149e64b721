"""Arrays of images as people store them, made 8-bit with the channels last."""

import numpy as np

from ltjax.data.npz import Header
from ltjax.errors import InputError, require

# Largest height, width and number of channels of such images.
MAX_SIDE = 4096
_CHANNELS = (1, 3, 4)
_FORMS = "uint8 [N, H, W] or [N, H, W, C]"


def image_shape(header: Header, name: str) -> tuple[int, ...]:
    """The shape of images with the channels last, as their header announces them.

    Args:
      header: of the array, before it is read.
      name: of the array, for the message.

    Returns:
      `(N, H, W, C)`.

    Raises:
      InputError: they are no images, or too large.
    """
    shape, dtype = header.shape, header.dtype
    shape = (*shape, 1) if len(shape) == 3 else shape
    number = dtype.kind in "uif"
    require(
        len(shape) == 4 and number and min(shape) >= 1,
        name,
        f"{dtype} {shape}",
        f"{_FORMS}, or numbers from 0 to 1",
    )
    if channels_first(shape):
        shape = (shape[0], *shape[2:], shape[1])
    require(max(shape[1:]) <= MAX_SIDE, name, shape, f"sides up to {MAX_SIDE}")
    return shape


def channels_first(shape: tuple[int, ...]) -> bool:
    """Whether images of four dimensions have their channels before height and width.

    Args:
      shape: of the array.

    Returns:
      True where the second side is a number of channels and the last one is not.

    >>> channels_first((9, 3, 32, 32)), channels_first((9, 32, 32, 3))
    (True, False)
    """
    return len(shape) == 4 and shape[1] in _CHANNELS and shape[3] not in _CHANNELS


def as_pixels(images: np.ndarray, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Images as 8-bit pixels with the channels last.

    Args:
      images: `[N, H, W]`, `[N, H, W, C]` or `[N, C, H, W]`; uint8, other integers from 0 to 255, or
        floats from 0 to 1.
      name: of the array, for messages.

    Returns:
      uint8 `[N, H, W, C]`, and a line about each conversion.

    Raises:
      InputError: values out of range.

    >>> pixels, notes = as_pixels(np.ones((1, 2, 2)), "images")
    >>> pixels.shape, int(pixels.max()), notes
    ((1, 2, 2, 1), 255, ('images: floats from 0 to 1 are taken as 0 to 255',))
    """
    notes = []
    if images.ndim == 3:
        images = images[..., None]
    elif channels_first(images.shape):
        notes.append(f"{name}: {list(images.shape)} is taken as [N, C, H, W]")
        images = np.moveaxis(images, 1, -1)
    if images.dtype != np.uint8:
        images, note = _eight_bits(images, name)
        notes.append(note)
    return np.ascontiguousarray(images), tuple(notes)


def _eight_bits(images: np.ndarray, name: str) -> tuple[np.ndarray, str]:
    low, high = float(images.min()), float(images.max())
    if images.dtype.kind == "f" and low >= 0 and high <= 1:  # False for NaN
        return np.round(images * 255.0).astype(np.uint8), (
            f"{name}: floats from 0 to 1 are taken as 0 to 255"
        )
    if images.dtype.kind in "ui" and low >= 0 and high <= 255:
        return images.astype(np.uint8), f"{name}: {images.dtype} is stored as uint8"
    raise InputError(
        f"{name} = {images.dtype} with values from {low:g} to {high:g} is not allowed; give "
        "pixels from 0 to 255 as uint8, or floats from 0 to 1, not normalized ones"
    )
