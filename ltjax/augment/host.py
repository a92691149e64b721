"""Crops, sizes and colors of single images on the host; OpenCV and NumPy, never JAX."""

from typing import NamedTuple

import numpy as np

from ltjax.augment.opencv import cv2

# Longer side in shorter sides from which on an image is cropped before it is resized.
_LONGEST = 16


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes an image: bilinear, or by area if it shrinks to less than half.

    Down to a half, bilinear interpolation still uses every pixel, and takes a quarter of the time.

    Args:
      image: `[H, W, C]`, uint8 or float32.
      height: new height, in pixels.
      width: new width, in pixels.

    Returns:
      `[height, width, C]`, the same dtype.

    Source: OpenCV, https://docs.opencv.org/4.x/da/d54/group__imgproc__transform.html
    """
    if image.shape[:2] == (height, width):
        return image
    shrinks = 2 * height < image.shape[0] or 2 * width < image.shape[1]
    kind = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    out = cv2.resize(image, (width, height), interpolation=kind)
    return out if out.ndim == 3 else out[..., None]


def center_crop(image: np.ndarray, size: int, *, share: float = 0.875) -> np.ndarray:
    """Resizes the shorter side to `size / share` and takes the center square, to evaluate images.

    An image that already has the size is left as it is. One that is more than 16 times as long as
    wide is cut to that first, around its center, so that the memory does not grow with its length.

    Args:
      image: `[H, W, C]`, uint8 or float32.
      size: side of the square, in pixels.
      share: share of the shorter side that is kept; by default 224 of 256.

    Returns:
      `[size, size, C]`, the same dtype.

    Source: common practice, as for the ResNets of torchvision,
    https://pytorch.org/vision/stable/models/generated/torchvision.models.resnet50.html
    """
    if image.shape[:2] == (size, size):
        return image
    shorter = min(image.shape[:2])
    image = _center(image, *(min(side, _LONGEST * shorter) for side in image.shape[:2]))
    scale = size / share / shorter
    height, width = (max(size, round(side * scale)) for side in image.shape[:2])
    image = resize(image, height, width)
    return _center(image, size, size)


def _center(image: np.ndarray, height: int, width: int) -> np.ndarray:
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


class HostAugment(NamedTuple):
    """Augmentations of a training image on the host, before it goes to the device.

    Attributes:
      area: smallest and largest share of the image's area that a crop takes.
      ratio: smallest and largest aspect ratio of a crop, width over height.
      jitter: largest relative change of brightness, contrast and saturation; 0 turns it off.

    Source: Szegedy et al. (CVPR 2015), https://arxiv.org/abs/1409.4842, for the crop; its ranges
    are the usual ones.
    """

    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    jitter: float = 0.0


def random_resized_crop(
    image: np.ndarray, rng: np.random.Generator, size: int, settings: HostAugment
) -> np.ndarray:
    """A random rectangle of the image, resized to a square.

    After ten rectangles that do not fit into the image it takes the center square instead.

    Args:
      image: `[H, W, C]`, uint8 or float32.
      rng: source of the random numbers.
      size: side of the square, in pixels.
      settings: ranges of the area and the aspect ratio.

    Returns:
      `[size, size, C]`, the same dtype.

    Source: Szegedy et al., Going Deeper with Convolutions (CVPR 2015),
    https://arxiv.org/abs/1409.4842
    """
    height, width = image.shape[:2]
    for _ in range(10):
        area = height * width * rng.uniform(*settings.area)
        ratio = np.exp(rng.uniform(*np.log(settings.ratio)))
        h, w = round(np.sqrt(area / ratio)), round(np.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            return resize(image[top : top + h, left : left + w], size, size)
    return center_crop(image, size, share=1.0)


def color_jitter(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Scales brightness, contrast and saturation, in random order, by random factors.

    Gray images have no saturation to change.

    Args:
      image: uint8 `[H, W, C]`; saturation needs C = 3.
      rng: source of the random numbers.
      strength: `s` in [0, 1]; the factors are uniform in `[1 - s, 1 + s]`.

    Returns:
      uint8 `[H, W, C]`.

    Source: Howard, Some Improvements on Deep Convolutional Neural Network Based Image
    Classification (2013), https://arxiv.org/abs/1312.5402
    """
    if not strength:
        return image
    order, factors = rng.permutation(3), rng.uniform(1 - strength, 1 + strength, 3)
    out: np.ndarray = image.astype(np.float32)
    gray = np.array([0.299, 0.587, 0.114], np.float32)
    for which in order:
        if which == 0:
            out = out * np.float32(factors[0])
        elif which == 1:
            level = (out @ gray).mean() if out.shape[-1] == 3 else out.mean()
            out = level + np.float32(factors[1]) * (out - level)
        elif out.shape[-1] == 3:
            level = (out @ gray)[..., None]
            out = level + np.float32(factors[2]) * (out - level)
        out = np.clip(out, 0, 255)
    return np.round(out).astype(np.uint8)
