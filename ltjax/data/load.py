"""From the configuration's data section to a long-tailed training part and a test part."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ltjax.data.arrays import digits, read_npz
from ltjax.data.folder import read_folder, read_list
from ltjax.data.loader import RESIDENCIES
from ltjax.data.longtail import (
    PROFILES,
    Profile,
    holdout,
    largest_head,
    stratified_sample,
    subset_indices,
)
from ltjax.data.sources import Source, Splits
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
# Names of the folder of test images beside `train`, in the order in which they are looked for.
TEST_FOLDERS = ("test", "val")

# A training part and a test part; None where the data set has no test part of its own.
Parts = tuple[Source, Source | None]


def _read_digits(config: "DataConfig") -> Parts:
    return digits(), None


def _read_npz(config: "DataConfig") -> Parts:
    return read_npz(config.path)


def _read_folder(config: "DataConfig") -> Parts:
    root, size = Path(config.dir), config.image_size or DEFAULT_SIZE
    if not (root / "train").is_dir():
        return read_folder(config.dir, size=size), None
    train = read_folder(str(root / "train"), size=size)
    for name in TEST_FOLDERS:
        if (root / name).is_dir():
            return train, read_folder(str(root / name), size=size, classes=train.class_names)
    return train, None


def _read_list(config: "DataConfig") -> Parts:
    size = config.image_size or DEFAULT_SIZE
    train = read_list(config.path, config.dir, size=size)
    if not config.test_path:
        return train, None
    classes = len(train.class_names)
    test = read_list(config.test_path, config.dir, size=size, classes=classes, key="data.test_path")
    return train, test


def _read_tfds(config: "DataConfig") -> Parts:
    train, test = (
        read_tfds(config.name, config.dir, split, size=config.image_size)
        for split in (config.train_split, config.test_split)
    )
    return train, test


# Every `data.name` and its reader. Any other name is the name of a TFDS data set.
SOURCES: dict[str, Callable[["DataConfig"], Parts]] = {
    "digits": _read_digits,
    "npz": _read_npz,
    "folder": _read_folder,
    "list": _read_list,
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
    path: str = option("", TEXT, "npz: the file; list: the training list, lines of `path label`")
    test_path: str = option("", TEXT, "list: the test list; if empty, test images are held out")
    dir: str = option(
        "",
        TEXT,
        "folder: the folder of CLASS/, or of train/CLASS/ and test/CLASS/; list: the root of the "
        "listed paths; TFDS: its data_dir",
    )
    train_split: str = option("train", TEXT, "TFDS: name of the training split")
    test_split: str = option("test", TEXT, "TFDS: name of the test split")
    image_size: int | None = option(
        None,
        integer(1, 4096),
        f"side in pixels of the network's square input; None: as stored, or {DEFAULT_SIZE} where "
        "images differ in size",
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
        50, integer(1, 10**9), "test images per class to hold out, if the data set has no test part"
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


def load_splits(config: DataConfig) -> Splits:
    """Reads a data set and makes the training part long-tailed.

    The training part is thinned to `config.profile`. A data set without a test part of its own
    first gives up `config.test_per_class` images of each class as a balanced test part.

    Args:
      config: what to read and how to split it; a `seed` of None is 0 here.

    Returns:
      The training part and the test part.

    Raises:
      InputError: a value out of range, or data that cannot be read or split as asked.

    >>> train, test = load_splits(DataConfig(name="digits", imbalance_factor=10))
    >>> train.class_counts.tolist()
    [128, 99, 76, 59, 46, 35, 27, 21, 16, 12]
    >>> len(test)
    500
    """
    for name, declared in options_of(config).items():
        declared.check(f"data.{name}", getattr(config, name))
    seed = config.seed or 0
    train, test = SOURCES.get(config.name, _read_tfds)(config)
    if test is None:
        kept, held_out = holdout(train.labels, config.test_per_class, seed)
        train, test = train.subset(kept), train.subset(held_out)
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
        train, test = (
            part.subset(stratified_sample(part.labels, config.limit, seed))
            for part in (train, test)
        )
    return Splits(train, test)


def thin(
    train: Source, profile: Profile, *, imbalance_factor: float, max_count: int | None, seed: int
) -> Source:
    """The long-tailed subset of a source, its images in the order of the source.

    With seed 0 and a data set that stores a `rank`, the images of lowest rank of each class are
    kept; otherwise the first ones after a shuffle in the official order, see
    `ltjax.data.longtail.subset_indices`.

    Args:
      train: training images.
      profile: one of `PROFILES`.
      imbalance_factor: of the profile, >= 1.
      max_count: images of the largest class; None is the most for which every class has enough.
      seed: of the shuffle.

    Returns:
      The source of the images that are kept.

    Raises:
      InputError: a class would be left empty, or has fewer images than the profile asks for.
    """
    available, classes = train.class_counts, len(train.class_names)
    head = max_count or largest_head(available, imbalance_factor, profile)
    counts = profile(max(head, 1), classes, imbalance_factor)
    if head < 1 or counts.min() < 1:
        raise InputError(
            f"data.imbalance_factor = {imbalance_factor:g} leaves the rarest class without "
            f"an image (the largest class of the training part has {available.max()} images); "
            "use a smaller factor"
        )
    if np.any(counts > available):
        short = int(np.argmax(counts - available))
        raise InputError(
            f"data.max_count = {max_count} asks for {counts[short]} images of class {short}, which "
            f"has {available[short]}; use a smaller number, or None for the most possible"
        )
    rank = getattr(train, "rank", None)
    if rank is not None and seed == 0:
        return train.subset(np.flatnonzero(rank < counts[train.labels]))
    if train.order is None:
        return train.subset(np.sort(subset_indices(train.labels, counts, seed)))
    # The rule shuffles in the official order, so what it picks are places in that order.
    official = np.argsort(train.order)
    picked = subset_indices(train.labels[official], counts, seed)
    return train.subset(np.sort(official[picked]))
