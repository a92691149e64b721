"""From the configuration's data section to a long-tailed training part and a test part."""

import dataclasses
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from ltjax.data.arrays import digits, read_npz
from ltjax.data.features import read_features
from ltjax.data.folder import read_folder, split_folders
from ltjax.data.lists import read_list
from ltjax.data.loader import RESIDENCIES
from ltjax.data.longtail import PROFILES, holdout, stratified_sample
from ltjax.data.parquet import has_text_labels, read_images, split_files
from ltjax.data.places import NOT_GIVEN, check_places
from ltjax.data.remote import copied_here, is_remote
from ltjax.data.sources import Source, Splits
from ltjax.data.split import check_classes, held_out_notes, thin, untested_notes
from ltjax.data.statistics import STATISTICS
from ltjax.data.tfds import read_tfds
from ltjax.errors import (
    FLAG,
    TEXT,
    Allowed,
    InputError,
    integer,
    number,
    one_of,
    option,
    options_of,
)

# Side of the square that the network sees where neither the configuration nor the data says.
DEFAULT_SIZE = 224


class Parts(NamedTuple):
    """What a data set has, before anything is held out or thinned.

    Attributes:
      train: training images.
      test: test images; None where it has no test part of its own.
      validation: images for choosing; None where it has none.
      notes: what a user should know of how they were read, one line each.
    """

    train: Source
    test: Source | None = None
    validation: Source | None = None
    notes: tuple[str, ...] = ()


def _read_digits(config: "DataConfig") -> Parts:
    return Parts(digits())


def _read_npz(config: "DataConfig") -> Parts:
    notes: list[str] = []
    train, test = read_npz(config.path, note=notes.append)
    return Parts(train, test, notes=tuple(notes))


def _read_folder(config: "DataConfig") -> Parts:
    size = config.image_size or DEFAULT_SIZE
    notes: list[str] = []
    folders = split_folders(config.dir, note=notes.append)
    root = folders.pop("train", config.dir)
    train = read_folder(root, size=size, note=notes.append)
    found = {
        split: read_folder(folder, size=size, classes=train.class_names, note=notes.append)
        for split, folder in folders.items()
    }
    return Parts(train, found.get("test"), found.get("validation"), tuple(notes))


def _read_list(config: "DataConfig") -> Parts:
    size = config.image_size or DEFAULT_SIZE
    train = read_list(config.path, config.dir, size=size)
    found = {
        key: read_list(path, config.dir, size=size, classes=train.class_names, key=f"data.{key}")
        for key, path in (
            ("test_path", config.test_path),
            ("validation_path", config.validation_path),
        )
        if path
    }
    return Parts(train, found.get("test_path"), found.get("validation_path"))


def _read_parquet(config: "DataConfig") -> Parts:
    size = config.image_size or DEFAULT_SIZE
    files = split_files(config.dir)
    if "train" not in files:
        raise InputError(
            f"data.dir = {config.dir!r} has no file train*.parquet, also not in a folder below; "
            "give the folder of a data set with Parquet files, such as a download of one of the "
            "Hugging Face hub"
        )
    text = has_text_labels(files["train"][0])
    train = read_images(files.pop("train"), size=size)
    found = {
        split: read_images(paths, size=size, classes=train.class_names, text=text)
        for split, paths in files.items()
    }
    return Parts(train, found.get("test"), found.get("validation"))


def _read_tfds(config: "DataConfig") -> Parts:
    train, test = (
        read_tfds(config.name, config.dir, split, size=config.image_size)
        for split in (config.train_split, config.test_split)
    )
    return Parts(train, test)


def _read_features(config: "DataConfig") -> Parts:
    notes: list[str] = []
    paths = config.path, config.test_path, config.validation_path
    return Parts(*read_features(*paths, note=notes.append), tuple(notes))


# Every `data.name` and its reader. Any other name is the name of a TFDS data set.
SOURCES: dict[str, Callable[["DataConfig"], Parts]] = {
    "digits": _read_digits,
    "npz": _read_npz,
    "folder": _read_folder,
    "list": _read_list,
    "parquet": _read_parquet,
    "features": _read_features,
}


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images to read, how to split them, and where to keep them."""

    name: str = option(
        "digits",
        Allowed(
            lambda v: TEXT.check(v) and v != "",
            f"{', '.join(SOURCES)}, or the name of a TFDS data set",
        ),
        "data set to read",
    )
    path: str = option(
        "",
        TEXT,
        "npz, features: the file; list: the training list, lines `path label`, or .csv or .parquet "
        "with the columns path and label",
    )
    test_path: str = option(
        "",
        TEXT,
        "list, features: the test list or file; if empty, test images are held out, unless the "
        "file of features has some",
    )
    validation_path: str = option(
        "",
        TEXT,
        "list, features: the list or file of images for choosing, which no final score uses",
    )
    dir: str = option(
        "",
        TEXT,
        "folder: the folder of CLASS/, or of train/CLASS/, test/CLASS/ and validation/CLASS/; "
        "list: the root of the listed paths; parquet: the folder of train*.parquet; TFDS: its "
        "data_dir",
    )
    train_split: str = option(NOT_GIVEN["train_split"], TEXT, "TFDS: name of the training split")
    test_split: str = option(NOT_GIVEN["test_split"], TEXT, "TFDS: name of the test split")
    image_size: int | None = option(
        None,
        integer(1, 4096),
        "side in pixels of the network's square input; None: that of a pretrained network "
        f"(model.weights), else as stored, or {DEFAULT_SIZE} where images differ in size",
    )
    statistics: str | tuple[float, ...] = STATISTICS.field()
    residency: str = option(
        "auto",
        one_of(*RESIDENCIES),
        "resident: all images stay in device memory; streamed: images are decoded while training; "
        "auto: resident if they fit",
    )
    resident_megabytes: int = option(
        4096, integer(0, 2**24), "largest data set that auto keeps in device memory, in MiB"
    )
    workers: int = option(
        0, integer(0, 256), "number of decoding processes; 0 decodes in threads of the main process"
    )
    threads: int = option(
        2, integer(1, 256), "number of decoding threads in the main process or in each worker"
    )
    skip_corrupt: bool = option(
        False, FLAG, "replace an unreadable image with another of its class instead of stopping"
    )
    limit: int | None = option(
        None,
        integer(1, 10**9),
        "keep about this many images of each part, every class in proportion",
    )
    profile: str = option(
        "exponential", one_of(*PROFILES), "shape of the long tail; as_is keeps every image"
    )
    imbalance_factor: float = option(
        20.0, number(1), "ratio of the largest to the smallest class of the long tail"
    )
    max_count: int | None = option(
        None, integer(1, 10**9), "images of the largest class; None: as many as the profile permits"
    )
    test_per_class: int = option(
        50,
        integer(1, 10**9),
        "test images per class to hold out, if the data set has no test part; a class keeps at "
        "least one image to train on",
    )
    seed: int | None = option(
        None,
        integer(0, 2**32 - 1),
        "seed of the split and of the long tail; None: same as seed; 0 gives the subsets of the "
        "published CIFAR-LT code",
    )
    validation_fraction: float = option(
        0.0, number(0, 0.5), "fraction of each class's training images to hold out for validation"
    )


def _local(config: DataConfig) -> DataConfig:
    """The same, with copies of the files and folders that are in an object store."""
    copies: dict[str, Any] = {
        key: copied_here(getattr(config, key)) for key in NOT_GIVEN if key.endswith("path")
    }
    if config.name not in SOURCES and is_remote(config.dir):
        # A data set of TFDS, the one of perhaps many in that folder.
        name = re.split("[:/]", config.name)[0]
        copies["dir"] = os.path.dirname(copied_here(f"{config.dir.rstrip('/')}/{name}"))
    elif config.name in SOURCES:
        copies["dir"] = copied_here(config.dir)
    return dataclasses.replace(config, **copies)


def read_parts(config: DataConfig) -> Parts:
    """Reads what a data set has, before anything is held out or thinned.

    Args:
      config: what to read.

    Returns:
      Its parts.

    Raises:
      InputError: a value out of range, or data that cannot be read.
    """
    for name, declared in options_of(config).items():
        declared.check(f"data.{name}", getattr(config, name))
    check_places(config.name, {key: getattr(config, key) for key in NOT_GIVEN})
    config = _local(config)
    return SOURCES.get(config.name, _read_tfds)(config)


def load_splits(config: DataConfig) -> Splits:
    """Reads a data set and makes the training part long-tailed; see `split_parts`.

    Args:
      config: what to read and how to split it.

    Returns:
      The parts.

    Raises:
      InputError: a value out of range, a file or folder that the source does not read, or data
        that cannot be read or split as asked.

    >>> splits = load_splits(DataConfig(name="digits", imbalance_factor=10))
    >>> splits.train.class_counts.tolist()
    [128, 99, 76, 59, 46, 35, 27, 21, 16, 12]
    >>> len(splits.test)
    500
    """
    return split_parts(read_parts(config), config)


def split_parts(parts: Parts, config: DataConfig) -> Splits:
    """Splits a data set and makes the training part long-tailed.

    The training part is thinned to `config.profile`. A data set without a test part of its own
    first gives up `config.test_per_class` images of each class as a balanced test part.

    Args:
      parts: what `read_parts` has read.
      config: how to split it; a `seed` of None is 0 here.

    Returns:
      The training part and the test part; the validation part where the data set has one; and
      notes.

    Raises:
      InputError: data that cannot be split as asked.
    """
    train, test, validation, notes = parts
    seed = config.seed or 0
    check_classes(train, config.name)
    if test is None:
        kept, held_out = holdout(train.labels, config.test_per_class, seed)
        notes += held_out_notes(train, config.test_per_class, validation is not None)
        train, test = train.subset(kept), train.subset(held_out)
    notes += untested_notes(train.class_names, train.class_counts, test.class_counts)
    profile = PROFILES[config.profile]
    if profile is not None:
        train = thin(
            train,
            profile,
            imbalance_factor=config.imbalance_factor,
            max_count=config.max_count,
            seed=seed,
        )
    if config.limit is not None:
        limit = config.limit
        train, test = (_limited(part, limit, seed) for part in (train, test))
        validation = validation and _limited(validation, limit, seed)
    return Splits(train, test, validation, notes)


def _limited(part: Source, limit: int, seed: int) -> Source:
    return part.subset(stratified_sample(part.labels, limit, seed))
