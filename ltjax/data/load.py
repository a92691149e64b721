"""From the configuration's data section to a long-tailed training part and a test part."""

import dataclasses
from collections.abc import Callable

import numpy as np

from ltjax.data.folder import read_folder, read_list
from ltjax.data.loader import RESIDENCIES
from ltjax.data.longtail import (
    exponential_counts,
    holdout,
    pareto_counts,
    step_counts,
    subset_indices,
)
from ltjax.data.sources import Source, Splits, digits, read_npz
from ltjax.data.tfds import read_tfds
from ltjax.errors import FLAG, TEXT, Allowed, InputError, integer, number, one_of, option, require

# Any other name is one of TFDS.
OWN_SOURCES = ("digits", "npz", "folder", "list")
PROFILES: dict[str, Callable[[int, int, float], np.ndarray] | None] = {
    "exponential": exponential_counts,
    "step": step_counts,
    "pareto": pareto_counts,
    "as_is": None,
}


def load_splits(
    *,
    name: str,
    path: str = "",
    test_path: str = "",
    dir: str = "",
    train_split: str = "train",
    test_split: str = "test",
    image_size: int | None = None,
    profile: str,
    imbalance_factor: float,
    max_count: int | None = None,
    test_per_class: int,
    limit: int | None = None,
    seed: int,
) -> Splits:
    """Loads a data set, holds out a balanced test set and thins the rest to a long tail.

    Args:
      name: "digits", "npz", "folder", "list", or a name of TFDS.
      path: file of "npz"; training list of "list".
      test_path: test list of "list"; "" holds images out.
      dir: folder of "folder", which may hold `train` and `test` (or `val`) folders; root of
        "list"; TFDS's `data_dir`.
      train_split: TFDS's split to train on.
      test_split: TFDS's split to test on.
      image_size: pixels of the square that the network sees; None: as stored, else 224.
      profile: "exponential", "step" or "pareto" thin the training part, "as_is" leaves it.
      imbalance_factor: of the profile, >= 1.
      max_count: images of the largest class; None is the most that the profile can have.
      test_per_class: test images of each class, where the data has no test set of its own.
      limit: keep about so many images of each part, every class in proportion.
      seed: of the split; 0 with the official order is the field's CIFAR-LT.

    Raises:
      InputError: a bad value, or data that cannot be read or split so.
    """
    require(profile in PROFILES, "data.profile", profile, f"one of {', '.join(PROFILES)}")
    train, test = _read(name, path, test_path, dir, (train_split, test_split), image_size)
    if test is None:
        train_indices, test_indices = holdout(train.labels, test_per_class, seed)
        train, test = train.subset(train_indices), train.subset(test_indices)
    counts = PROFILES[profile]
    if counts is not None:
        train = _thin(train, counts, imbalance_factor, max_count, seed)
    if limit is not None:
        train, test = (part.subset(_sample(part.labels, limit, seed)) for part in (train, test))
    return Splits(train, test)


def _read(
    name: str,
    path: str,
    test_path: str,
    folder: str,
    splits: tuple[str, str],
    size: int | None,
) -> tuple[Source, Source | None]:
    if name == "digits":
        return digits(), None
    if name == "npz":
        return read_npz(path)
    if name == "list":
        train = read_list(path, folder, size=size or 224)
        if not test_path:
            return train, None
        classes = len(train.class_names)
        test = read_list(test_path, folder, size=size or 224, classes=classes, key="data.test_path")
        return train, test
    if name == "folder":
        return _read_folder(folder, size or 224)
    return (
        read_tfds(name, folder, splits[0], size=size),
        read_tfds(name, folder, splits[1], size=size),
    )


def _read_folder(folder: str, size: int) -> tuple[Source, Source | None]:
    from pathlib import Path

    root = Path(folder)
    if not (root / "train").is_dir():
        return read_folder(folder, size=size), None
    train = read_folder(str(root / "train"), size=size)
    for name in ("test", "val"):
        if (root / name).is_dir():
            return train, read_folder(str(root / name), size=size, classes=train.class_names)
    return train, None


def _thin(
    train: Source,
    profile: Callable[[int, int, float], np.ndarray],
    imbalance_factor: float,
    max_count: int | None,
    seed: int,
) -> Source:
    """The long-tailed subset, ascending: by rank where the data has it, else by the shuffle."""
    available, classes = train.class_counts, len(train.class_names)
    head = max_count or largest_head(available, imbalance_factor, profile)
    counts = profile(max(head, 1), classes, imbalance_factor)
    if head < 1 or counts.min() < 1:
        raise InputError(
            f"data.imbalance_factor = {imbalance_factor:g} leaves the rarest class without "
            f"an image (the training part has {available.max()} images of its "
            "largest class); use a smaller one"
        )
    if np.any(counts > available):
        short = int(np.argmax(counts - available))
        raise InputError(
            f"data.max_count = {max_count} asks for {counts[short]} images of class {short}, which "
            f"has {available[short]}; use a smaller one, or None for the most there can be"
        )
    rank = getattr(train, "rank", None)
    if rank is not None and seed == 0:
        return train.subset(np.flatnonzero(rank < counts[train.labels]))
    if train.order is None:
        return train.subset(np.sort(subset_indices(train.labels, counts, seed)))
    # The rule shuffles in official order; what it picks are places in that order.
    official = np.argsort(train.order)
    picked = subset_indices(train.labels[official], counts, seed)
    return train.subset(np.sort(official[picked]))


def largest_head(
    available: np.ndarray,
    imbalance_factor: float,
    profile: Callable[[int, int, float], np.ndarray] = exponential_counts,
) -> int:
    """The largest `n_max` whose profile every class can fill.

    >>> largest_head(np.array([100, 10, 100]), 4)
    21
    """
    low, high = 0, int(available.max(initial=0))
    while low < high:  # counts grow with the head, so the largest is found by halving
        middle = (low + high + 1) // 2
        if np.any(profile(middle, len(available), imbalance_factor) > available):
            high = middle - 1
        else:
            low = middle
    return low


def _sample(labels: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """Indices of about `limit` images, ascending: of each class its share, at least one."""
    if len(labels) <= limit:
        return np.arange(len(labels))
    counts = np.bincount(labels)
    kept = np.minimum(counts, np.maximum(np.round(counts * (limit / len(labels))), 1).astype(int))
    return np.sort(subset_indices(labels, kept, seed))


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What a configuration says of the images."""

    name: str = option(
        "digits",
        Allowed(lambda v: v != "", f"{', '.join(OWN_SOURCES)}, or a name of TFDS"),
        "data set; any other name is one of TFDS",
    )
    path: str = option("", TEXT, "npz: file; list: training list with lines 'path label'")
    test_path: str = option("", TEXT, "list: test list; empty: images are held out")
    dir: str = option(
        "", TEXT, "folder: of CLASS/ or train/CLASS/ and test/CLASS/; list: root; TFDS: data_dir"
    )
    train_split: str = option("train", TEXT, "TFDS: split to train on")
    test_split: str = option("test", TEXT, "TFDS: split to test on")
    image_size: int | None = option(
        None, integer(1), "pixels of the network's square; None: as stored, else 224"
    )
    residency: str = option("auto", one_of(*RESIDENCIES), "in device memory, or read")
    resident_megabytes: int = option(4096, integer(0), "most that auto keeps in device memory")
    workers: int = option(0, integer(0), "processes that decode; 0: threads of this one")
    threads: int = option(2, integer(1), "that decode, of this process or of each worker")
    skip_corrupt: bool = option(False, FLAG, "replace a damaged image by another of its class")
    limit: int | None = option(None, integer(1), "keep about so many images of each part")
    profile: str = option("exponential", one_of(*PROFILES), "thinning of the data")
    imbalance_factor: float = option(20.0, number(1), "largest over smallest class")
    max_count: int | None = option(
        None, integer(1), "images of the largest class; None: the most there can be"
    )
    test_per_class: int = option(50, integer(1), "test images held out of each class")
    seed: int | None = option(None, integer(0), "of the split; None takes seed")
    validation_fraction: float = option(
        0.0, number(0, 0.5), "of each class's training images, held out of training"
    )
