"""Mean and standard deviation that pixels are normalized with: of the images, or constants."""

from typing import Any

import numpy as np

from ltjax.data.rows import FeatureSource
from ltjax.data.sources import ArraySource, EncodedSource, Source
from ltjax.data.stream import LoadBatch, Stream
from ltjax.errors import Allowed, InputError, Option, require

# Constants of the field's code: the means of three channels, then the standard deviations, in
# units of 0 ... 1. Sources: https://github.com/kaidic/LDAM-DRW (both CIFAR sets) and
# https://github.com/facebookresearch/classifier-balancing (the others).
CONSTANTS: dict[str, tuple[float, ...]] = {
    "cifar": (0.4914, 0.4822, 0.4465, 0.2023, 0.1994, 0.2010),
    "imagenet": (0.485, 0.456, 0.406, 0.229, 0.224, 0.225),
    "inaturalist": (0.466, 0.471, 0.380, 0.195, 0.194, 0.192),
}


def _statistics(value: Any) -> bool:
    """Whether it is a name, or means and as many standard deviations."""
    if isinstance(value, str):
        return value == "dataset" or value in CONSTANTS
    if not isinstance(value, tuple | list):
        return False
    half = len(value) // 2
    numbers = all(type(x) in (int, float) and abs(x) <= 1000 for x in value)
    return half > 0 and len(value) == 2 * half and numbers and min(value[half:]) >= 1e-6


STATISTICS = Option(
    "dataset",
    Allowed(
        _statistics,
        f"one of dataset, {', '.join(CONSTANTS)}, or (MEAN, ..., STD, ...), each channel's mean "
        "and then each channel's std >= 1e-6",
    ),
    "what pixels are normalized with: the mean and std of the training images, constants of the "
    "field's code, or given numbers, for pixels of 0 to 1",
)


def normalization(
    statistics: str | tuple[float, ...], train: Source
) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the standard deviation that pixels are normalized with.

    Args:
      statistics: "dataset", a name of `CONSTANTS`, or each channel's mean and then each channel's
        standard deviation, for pixels of 0 ... 1.
      train: training images.

    Returns:
      Both, float32 `[C]`, in units of 0 ... 255; of features `[D]`, in their own units.

    Raises:
      InputError: a value that is not allowed, or constants of another number of channels.

    >>> from ltjax.data.arrays import digits
    >>> normalization((0.5, 0.25), digits())
    (array([127.5], dtype=float32), array([63.75], dtype=float32))
    """
    STATISTICS.check("data.statistics", statistics)
    if isinstance(train, FeatureSource):
        allowed = "dataset for features, each of which is standardized"
        require(statistics == "dataset", "data.statistics", statistics, allowed)
        return train.statistics()
    if statistics == "dataset":
        return pixel_statistics(train)
    numbers = CONSTANTS[statistics] if isinstance(statistics, str) else statistics
    channels = train.image_shape[-1]
    if len(numbers) != 2 * channels:
        raise InputError(
            f"data.statistics = {statistics!r} is for images of {len(numbers) // 2} channels, and "
            f"these have {channels}; use dataset, or {channels} means and then {channels} standard "
            "deviations"
        )
    mean, std = 255 * np.array(numbers).reshape(2, channels)
    return mean.astype(np.float32), std.astype(np.float32)


def pixel_statistics(
    source: ArraySource | EncodedSource, *, sample: int = 1024
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel, float32 `[C]`, in units of 0 ... 255.

    Args:
      source: if its images are in memory, all of them are used; otherwise a sample, as evaluation
        sees them. An image that cannot be read is replaced by another of its class.
      sample: size of the sample, which is evenly spaced.

    Returns:
      Mean and standard deviation; the latter is at least 0.001.
    """
    if isinstance(source, ArraySource):
        images = source.images
    else:
        chosen = np.unique(np.linspace(0, len(source) - 1, min(sample, len(source))).astype(int))
        load = LoadBatch(source, None, 0, skip_corrupt=True)
        stream = Stream(chosen[:, None], load)  # one image per batch, to share the work
        images = np.concatenate([stream[i] for i in range(len(chosen))])
        stream.close()
    histogram = np.zeros((images.shape[-1], 256))
    for part in np.array_split(images.reshape(-1, images.shape[-1]), max(len(images) // 4096, 1)):
        histogram += [np.bincount(channel, minlength=256) for channel in part.T]
    level, total = np.arange(256.0), histogram[0].sum()
    mean = histogram @ level / total
    variance = (histogram * (level[None, :] - mean[:, None]) ** 2).sum(axis=1) / total
    return mean.astype(np.float32), np.sqrt(np.maximum(variance, 1e-6)).astype(np.float32)
