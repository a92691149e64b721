"""From a file's bytes to an RGB image, and from images to the size of the network; OpenCV alone."""

from typing import NamedTuple

import cv2
import numpy as np

# More pixels than this are not a photograph, but a mistake or an attack: 2^27 are 400 MB.
MOST_PIXELS = 2**27
cv2.setNumThreads(0)  # images are decoded side by side; threads inside one are in the way
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # told in our own words


class DecodeError(ValueError):
    """Bytes that are no image, or not a whole one; the message is the reason alone."""


def image_size(data: bytes) -> tuple[int, int] | None:
    """Height and width that a JPEG or PNG header names; None for another format.

    >>> signature = b"\\x89PNG\\r\\n\\x1a\\n"
    >>> image_size(signature + bytes(11) + b"\\x05" + bytes(3) + b"\\x07")
    (7, 5)
    """
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
        return height, width
    if data[:2] != b"\xff\xd8":
        return None
    position = 2
    while position + 9 < len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        # Start-of-frame markers; 0xC4, 0xC8 and 0xCC are tables and an extension.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (
                int.from_bytes(data[position + i : position + i + 2], "big") for i in (5, 7)
            )
            return height, width
        if marker == 0xFF:  # padding
            position += 1
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def decode(data: bytes, *, at_least: int | None = None) -> np.ndarray:
    """Decodes an image to uint8 RGB `[H, W, 3]`.

    Grey, RGBA (alpha is dropped), CMYK and 16-bit images become 8-bit RGB; the EXIF orientation is
    followed.

    Args:
      data: the file's content.
      at_least: decode a JPEG at 1/2, 1/4 or 1/8 of its size, as long as the shorter side keeps
        this many pixels; several times faster for large photographs.

    Raises:
      DecodeError: not an image, cut off, or larger than `MOST_PIXELS`.
    """
    size = image_size(data)
    jpeg = data[:2] == b"\xff\xd8"
    if size is not None and size[0] * size[1] > MOST_PIXELS:
        raise DecodeError(f"its header says {size[1]} x {size[0]} pixels, at most 2^27 are read")
    if jpeg and b"\xff\xd9" not in data[-4096:]:
        raise DecodeError("the JPEG is cut off: it has no end marker")
    flag = cv2.IMREAD_COLOR
    if jpeg and size is not None and at_least:
        for factor, reduced in (
            (8, cv2.IMREAD_REDUCED_COLOR_8),
            (4, cv2.IMREAD_REDUCED_COLOR_4),
            (2, cv2.IMREAD_REDUCED_COLOR_2),
        ):
            if min(size) >= factor * at_least:
                flag = reduced
                break
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
    except cv2.error as e:
        raise DecodeError(f"OpenCV: {e.err}") from e
    if image is None:
        raise DecodeError("it is empty" if not data else "it is not an image that OpenCV reads")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes to `[height, width, C]`: by area where it shrinks, bilinear where it grows."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height < image.shape[0] and width < image.shape[1]
    kind = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    out = cv2.resize(image, (width, height), interpolation=kind)
    return out if out.ndim == 3 else out[..., None]


def centre_crop(image: np.ndarray, size: int, *, share: float = 0.875) -> np.ndarray:
    """The field's evaluation view: shorter side to `size / share`, then the middle square.

    An image that has the size already is left as it is.

    Args:
      image: `[H, W, C]`.
      size: of the square, in pixels.
      share: of the shorter side that is kept; 224 of 256 by default.
    """
    if image.shape[:2] == (size, size):
        return image
    scale = size / share / min(image.shape[:2])
    height, width = (max(size, round(side * scale)) for side in image.shape[:2])
    image = resize(image, height, width)
    top, left = (height - size) // 2, (width - size) // 2
    return image[top : top + size, left : left + size]


class HostAugment(NamedTuple):
    """What is done to a training image on the host, before it goes to the device.

    Attributes:
      area: smallest and largest share of the area that a crop takes.
      ratio: narrowest and widest aspect ratio of a crop.
      jitter: largest relative change of brightness, contrast and saturation; 0 is none.

    Source: Szegedy et al. (CVPR 2015), the crop; the ranges are the field's.
    """

    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    jitter: float = 0.0


def random_resized_crop(
    image: np.ndarray, rng: np.random.Generator, size: int, settings: HostAugment
) -> np.ndarray:
    """A random rectangle of the image, resized to a square; ten tries, then the centre."""
    height, width = image.shape[:2]
    for _ in range(10):
        area = height * width * rng.uniform(*settings.area)
        ratio = np.exp(rng.uniform(*np.log(settings.ratio)))
        h, w = round(np.sqrt(area / ratio)), round(np.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            return resize(image[top : top + h, left : left + w], size, size)
    return centre_crop(image, size, share=1.0)


def colour_jitter(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Scales brightness, contrast and saturation, in random order, by factors `1 - s` to `1 + s`.

    Grey images have no saturation to change.
    """
    if not strength:
        return image
    order, factors = rng.permutation(3), rng.uniform(1 - strength, 1 + strength, 3)
    out: np.ndarray = image.astype(np.float32)
    grey = np.array([0.299, 0.587, 0.114], np.float32)
    for which in order:
        if which == 0:
            out = out * np.float32(factors[0])
        elif which == 1:
            level = (out @ grey).mean() if out.shape[-1] == 3 else out.mean()
            out = level + np.float32(factors[1]) * (out - level)
        elif out.shape[-1] == 3:
            level = (out @ grey)[..., None]
            out = level + np.float32(factors[2]) * (out - level)
        out = np.clip(out, 0, 255)
    return np.round(out).astype(np.uint8)
