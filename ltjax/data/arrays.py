"""Sources whose images are in memory: the digits of scikit-learn, and `.npz` files."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ltjax.data.labeled import classes_by_name, numbered_classes
from ltjax.data.npz import Header, NpzError, open_npz
from ltjax.data.pixels import as_pixels, image_shape
from ltjax.data.sources import ArraySource
from ltjax.errors import InputError, check_labels, require, shown, some_of, visible

# Arrays that are read from an .npz file.
NAMES = ("images", "labels", "test_images", "test_labels", "class_names")
_TEXT = "US"  # kinds of NumPy's text


def digits() -> ArraySource:
    """The 1,797 handwritten digits that ship with scikit-learn, 8x8, gray.

    Pixels 0 ... 16 are scaled to 0 ... 255.

    Returns:
      The images in memory, in scikit-learn's order.

    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998),
    https://doi.org/10.24432/C50P49.

    >>> len(digits()), digits().image_shape
    (1797, (8, 8, 1))
    """
    table = _digits_table()
    images = np.round(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return ArraySource(images, table[:, 64].astype(np.int64), tuple(str(c) for c in range(10)))


def _digits_table() -> np.ndarray:
    """Pixels and label of every digit, `[N, 65]`.

    Read from scikit-learn's file where it lies, since importing scikit-learn takes longer than
    the rest of loading the data; by scikit-learn itself where it lies elsewhere.
    """
    spec = importlib.util.find_spec("sklearn")
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    data = load_digits()
    return np.column_stack([data.data, data.target])


def read_npz(
    path: str, *, note: Callable[[str], None] = lambda line: None
) -> tuple[ArraySource, ArraySource | None]:
    """Reads arrays from an `.npz` file, without pickle.

    Args:
      path: file with `images` (uint8 `[N, H, W]` or `[N, H, W, C]`) and `labels` (int
        `[N]`, or text); `test_images` and `test_labels` if the test set is separate; `class_names`
        (strings) if they have names. What `as_pixels` converts is converted.
      note: is told of conversions.

    Returns:
      The training images, and the test images or None.

    Raises:
      InputError: no such file, a file of another format, a missing array or a wrong dtype.
    """
    if path and not os.path.lexists(path):
        raise InputError(f"data.path = {shown(path)} does not exist; give an .npz file")
    require(Path(path).exists() and path != "", "data.path", path, "the path of an .npz file")
    try:
        with open_npz(path, NAMES) as npz:
            _check_headers(npz.headers)
            return parts_of(npz.read_all(), note=note)
    except NpzError as e:
        raise InputError(
            f"data.path = {path!r} cannot be read as .npz ({e}); "
            "write it with numpy.savez(path, images=..., labels=...)"
        ) from e
    except InputError as e:
        raise InputError(f"data.path = {path!r}: {e}") from e


def parts_of(
    arrays: dict[str, np.ndarray], *, note: Callable[[str], None]
) -> tuple[ArraySource, ArraySource | None]:
    """The sources of arrays whose shapes and types are checked.

    Args:
      arrays: by the names of `NAMES`.
      note: is told of conversions.

    Returns:
      The training images, and the test images or None.

    Raises:
      InputError: values out of range.
    """
    classes = _class_names(arrays, note)
    text = "class_names" not in arrays and arrays["labels"].dtype.kind in _TEXT

    def part(images: str, labels: str) -> ArraySource:
        pixels, notes = as_pixels(arrays[images], images)
        for line in notes:
            note(line)
        numbers = _numbers(arrays[labels], labels, classes, text=text)
        return ArraySource(pixels, numbers, classes)

    train = part("images", "labels")
    gaps = [classes[c] for c in np.flatnonzero(train.class_counts == 0)]
    if gaps:
        note(f"labels: no image has the label of class {some_of(gaps)}; it is never predicted")
    return train, part("test_images", "test_labels") if "test_images" in arrays else None


def _check_headers(headers: dict[str, Header]) -> None:
    """Checks what the file says of its arrays, before any is read."""
    missing = {"images", "labels"} - set(headers)
    if missing:
        raise InputError(
            f"it lacks the array {sorted(missing)[0]!r}; it needs images and labels, and may have "
            "test_images and test_labels"
        )
    parts = [("images", "labels")]
    if "test_images" in headers:
        require("test_labels" in headers, "test_labels", None, "an array beside test_images")
        parts.append(("test_images", "test_labels"))
    shapes = []
    for images, labels in parts:
        shape, of = image_shape(headers[images], images), headers[labels]
        kind = np.issubdtype(of.dtype, np.integer) or of.dtype.kind in _TEXT
        require(
            of.shape == shape[:1] and kind,
            labels,
            f"{of.dtype} {of.shape}",
            f"one integer for each of {shape[0]} images, or one name",
        )
        shapes.append(shape[1:])
    if shapes[1:]:
        words = f"{shapes[0]}, the shape of the training images"
        require(shapes[1] == shapes[0], "test_images", shapes[1], words)
    if "class_names" in headers:
        names = headers["class_names"]
        text = names.dtype.kind in "USiu"
        require(len(names.shape) == 1 and text, "class_names", names.shape, "a list of text")


def _names(array: np.ndarray) -> list[str]:
    """Text of any kind; bytes are UTF-8."""
    return [
        visible(x.decode("utf-8", "surrogateescape") if isinstance(x, bytes) else str(x))
        for x in array
    ]


def _class_names(arrays: dict[str, np.ndarray], note: Callable[[str], None]) -> tuple[str, ...]:
    """The names in the file; otherwise numbers, as many as these images can have."""
    if "class_names" in arrays:
        return tuple(_names(arrays["class_names"]))
    if arrays["labels"].dtype.kind in _TEXT:
        found = tuple(sorted(set(_names(arrays["labels"]))))
        note(f"labels: text, taken as the names of {len(found)} classes: {some_of(found)}")
        return found
    labels = check_labels(arrays["labels"])
    return numbered_classes(labels)


def _numbers(labels: np.ndarray, name: str, classes: tuple[str, ...], *, text: bool) -> np.ndarray:
    """Class numbers of labels that are numbers or names; `text`: the classes have names alone."""
    if labels.dtype.kind not in _TEXT:
        numbers = check_labels(labels)
        return classes_by_name(numbers, None, classes, "test labels") if text else numbers
    place = {own: c for c, own in enumerate(classes)}
    names = _names(labels)
    unknown = [own for own in names if own not in place]
    if unknown:
        raise InputError(f"{name} has {shown(unknown[0])}, which is none of the classes")
    return np.array([place[own] for own in names], np.int64)
