"""The images of a run: read, split, decoded where they are to lie in device memory, normalized."""

from typing import NamedTuple

import numpy as np

from ltjax.config import Config
from ltjax.data.load import load_splits
from ltjax.data.loader import is_resident
from ltjax.data.longtail import stratified
from ltjax.data.sources import EncodedSource, Source, Splits
from ltjax.data.statistics import normalization
from ltjax.data.stream import decode_all
from ltjax.data.weights import pixels_of
from ltjax.errors import InputError, one_line


class RunData(NamedTuple):
    """The images of a run.

    Attributes:
      train: training images.
      test: test images.
      validation: images for choosing, held out of the training or a part of the data set; None
        where there are none.
      resident: whether training and test images lie in device memory.
      mean: what is subtracted from the pixels, float32 `[channels]`, in units of 0 ... 255.
      std: what they are divided by then, float32 `[channels]`.
      damaged: how often other images took the place of each damaged one.
      notes: what a user should know of how the data was read, one line each.
    """

    train: Source
    test: Source
    validation: Source | None
    resident: bool
    mean: np.ndarray
    std: np.ndarray
    damaged: dict[str, int]
    notes: tuple[str, ...] = ()


def read_data(config: Config) -> RunData:
    """Reads the images of a run, and decodes those that are to lie in device memory.

    Args:
      config: resolved configuration.

    Raises:
      InputError: data that cannot be read.
    """
    splits, resident, damaged = _place(load_splits(config.data), config)
    assert config.data.seed is not None  # a resolved configuration's is a number
    train, validation = splits.train, splits.validation
    if validation is None:
        train, validation = _hold_out(train, config.data.validation_fraction, config.data.seed)
    notes = splits.notes + _data_notes(config, splits, len(train), damaged)
    mean, std = normalization(_statistics(config, train), train)
    return RunData(train, splits.test, validation, resident, mean, std, damaged, notes)


def _statistics(config: Config, train: Source) -> str | tuple[float, ...]:
    """What pixels are normalized with; pretrained weights need what they were trained with."""
    model, statistics = config.model, config.data.statistics
    if model.weights and train.image_shape[-1] != 3:
        raise InputError(
            f"config.model.weights = {one_line(model.weights)} is for color images, and these are "
            f"{train.image_shape}; leave it empty"
        )
    if not model.weights or statistics != "dataset":
        return statistics
    return pixels_of(model.weights, model.name)


def _data_notes(
    config: Config, splits: Splits, images: int, damaged: dict[str, int]
) -> tuple[str, ...]:
    """What there is to say of the data beside what its reader says."""
    notes = [f"damaged, another image of its class takes its place: {line}" for line in damaged]
    if splits.validation is not None and config.data.validation_fraction:
        notes.append("data.validation_fraction is not used, since the data has a validation part")
    if num_blocks_of(config, splits.train) < config.plan.num_blocks:
        classes = np.count_nonzero(splits.train.class_counts)
        asked = config.plan.num_blocks
        notes.append(f"plan.num_blocks = {asked} is lowered to {classes}, one for each class")
    if (size := config.train.batch_size) > images:
        notes.append(f"train.batch_size = {size} is more than the {images:,} training images")
    return tuple(notes)


def num_blocks_of(config: Config, train: Source) -> int:
    """The blocks of B3RS: as many as the configuration says, but at most one for each class."""
    return min(config.plan.num_blocks, int(np.count_nonzero(train.class_counts)))


def _place(splits: Splits, config: Config) -> tuple[Splits, bool, dict[str, int]]:
    """The splits, decoded if they are to lie in device memory; whether; and damaged images."""
    data, given = config.data, (splits.train, splits.test, splits.validation)
    on_host = config.augment.crop_area < 1 or config.augment.colour_jitter > 0
    images = sum(len(part) for part in given if part is not None)
    if not is_resident(data.residency, splits.train, images, data.resident_megabytes, on_host):
        return splits, False, {}
    damaged: dict[str, int] = {}
    parts: list[Source | None] = []
    for part in given:
        if isinstance(part, EncodedSource):
            part, wrong = decode_all(part, skip_corrupt=data.skip_corrupt, threads=data.threads)
            damaged |= wrong
        parts.append(part)
    train, test, validation = parts
    assert train is not None
    assert test is not None
    return Splits(train, test, validation, splits.notes), True, damaged


def _hold_out(train: Source, fraction: float, seed: int) -> tuple[Source, Source | None]:
    """Training images that lack a part of every class, and that part."""
    if not fraction:
        return train, None
    kept, held = stratified(train.labels, fraction, seed)
    return train.subset(kept), train.subset(held)
