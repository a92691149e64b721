"""Random-access image sources: labels known at once, images by index."""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ltjax.data.longtail import exponential_counts, holdout, subset_indices
from ltjax.data.plan import check_labels
from ltjax.errors import InputError, require

SOURCES = ("digits", "npz")
PROFILES = ("exponential", "as_is")


@dataclass(frozen=True)
class ArraySource:
    """Images held in memory.

    Attributes:
      images: uint8 `[N, H, W, C]`.
      labels: int64 `[N]`, classes `0 ... len(class_names) - 1`.
      class_names: one name per class.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self):
        require(
            self.images.ndim == 4 and self.images.dtype == np.uint8,
            "images",
            f"{self.images.dtype} {self.images.shape}",
            "uint8 [N, H, W, C]",
        )
        labels = check_labels(self.labels)
        require(
            len(labels) == len(self.images),
            "len(labels)",
            len(labels),
            f"one label for each of the {len(self.images)} images",
        )
        top = len(self.class_names) - 1
        require(labels.max() <= top, "labels.max()", int(labels.max()), f"labels from 0 to {top}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def class_counts(self) -> np.ndarray:
        """Images per class, int64 `[C]`."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    def subset(self, indices: np.ndarray) -> "ArraySource":
        """The source of these images, in this order."""
        return ArraySource(self.images[indices], self.labels[indices], self.class_names)

    def fingerprint(self) -> str:
        """Short hash of the pixels and labels."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images).tobytes())
        digest.update(str(self.images.shape).encode() + self.labels.astype("<i8").tobytes())
        return digest.hexdigest()[:16]


class Splits(NamedTuple):
    """Long-tailed training part and test part of a data set."""

    train: ArraySource
    test: ArraySource


def digits() -> ArraySource:
    """The 1,797 handwritten digits that ship with scikit-learn, 8x8, grey.

    Pixels 0 ... 16 are scaled to 0 ... 255.

    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998).
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.round(data.images * (255 / 16)).astype(np.uint8)[..., None]
    return ArraySource(images, data.target.astype(np.int64), tuple(str(c) for c in range(10)))


def read_npz(path: str) -> tuple[ArraySource, ArraySource | None]:
    """Reads arrays from an `.npz` file, without pickle.

    Args:
      path: file with `images` (uint8 `[N, H, W]` or `[N, H, W, C]`) and `labels` (int
        `[N]`); `test_images` and `test_labels` if the test set is separate; `class_names`
        (strings) if they have names.

    Returns:
      `(source, test source or None)`.

    Raises:
      InputError: no such file, not an npz file, a missing array or a wrong dtype.
    """
    require(Path(path).is_file(), "data.path", path, "the path of an .npz file")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as data:
            arrays = {key: data[key] for key in data.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as e:
        raise InputError(
            f"data.path = {path!r} cannot be read as .npz ({' '.join(str(e).split())}); "
            "write it with numpy.savez(path, images=..., labels=...)"
        ) from e
    missing = {"images", "labels"} - set(arrays)
    if missing:
        raise InputError(
            f"data.path = {path!r} lacks the array {sorted(missing)[0]!r}; "
            "it needs images and labels, and may have test_images and test_labels"
        )
    labels = check_labels(arrays["labels"])
    names = arrays.get("class_names", np.arange(labels.max() + 1))
    classes = tuple(str(name) for name in names)
    source = ArraySource(_with_channels(arrays["images"]), labels, classes)
    if "test_images" not in arrays:
        return source, None
    require("test_labels" in arrays, "test_labels", None, "an array beside test_images")
    test_labels = check_labels(arrays["test_labels"])
    return source, ArraySource(_with_channels(arrays["test_images"]), test_labels, classes)


def read_images(path: str) -> np.ndarray:
    """The array `images` of an `.npz` file, uint8 `[N, H, W, C]`; labels are not needed.

    Raises:
      InputError: no such file, or none with such an array.
    """
    require(Path(path).is_file(), "--input", path, "the path of an .npz file")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as data:
            images = _with_channels(data["images"])
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as e:
        raise InputError(
            f"--input {path} holds no array images ({' '.join(str(e).split())}); "
            "write it with numpy.savez(path, images=...)"
        ) from e
    found = f"{images.dtype} {images.shape}"
    ok = images.ndim == 4 and images.dtype == np.uint8
    require(ok, f"images of {path}", found, "uint8 [N, H, W] or [N, H, W, C]")
    return images


def _with_channels(images: np.ndarray) -> np.ndarray:
    return images[..., None] if images.ndim == 3 else images


def largest_head(available: np.ndarray, imbalance_factor: float) -> int:
    """The largest `n_max` whose exponential profile every class can fill."""
    shape = (1 / imbalance_factor) ** (np.arange(len(available)) / max(len(available) - 1, 1))
    head = int(np.min((np.asarray(available) + 1) / shape))
    while head > 0 and np.any(
        exponential_counts(head, len(available), imbalance_factor) > available
    ):
        head -= 1
    return head


def load_splits(
    *,
    name: str,
    path: str,
    profile: str,
    imbalance_factor: float,
    test_per_class: int,
    seed: int,
) -> Splits:
    """Loads a data set, holds out a balanced test set and thins the rest to a long tail.

    Args:
      name: one of `SOURCES`.
      path: file of the source "npz".
      profile: "exponential" thins the training part to the exponential profile, "as_is"
        leaves it as it is.
      imbalance_factor: of the exponential profile, >= 1.
      test_per_class: test images of each class, where the data has no test set of its own.
      seed: of the split.

    Raises:
      InputError: a bad value, or data that cannot be read or split so.
    """
    require(name in SOURCES, "data.name", name, f"one of {', '.join(SOURCES)}")
    require(profile in PROFILES, "data.profile", profile, f"one of {', '.join(PROFILES)}")
    source, test = (digits(), None) if name == "digits" else read_npz(path)
    train = source
    if test is None:
        train_indices, test_indices = holdout(source.labels, test_per_class, seed)
        train, test = source.subset(train_indices), source.subset(test_indices)
    if profile == "exponential":
        head = largest_head(train.class_counts, imbalance_factor)
        counts = exponential_counts(max(head, 1), len(train.class_names), imbalance_factor)
        if head < 1 or counts.min() < 1:
            raise InputError(
                f"data.imbalance_factor = {imbalance_factor:g} leaves the rarest class without "
                f"an image (the training part has {train.class_counts.max()} images of its "
                "largest class); use a smaller one"
            )
        train = train.subset(np.sort(subset_indices(train.labels, counts, seed)))
    return Splits(train, test)
