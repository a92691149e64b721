"""Sources whose images are in memory: the digits of scikit-learn, and `.npz` files."""

import importlib.util
from pathlib import Path

import numpy as np

from ltjax.data.npz import Header, NpzError, open_npz
from ltjax.data.sources import ArraySource
from ltjax.errors import InputError, check_labels, require, visible

# Arrays that are read from an .npz file.
NAMES = ("images", "labels", "test_images", "test_labels", "class_names")
# Largest height, width and number of channels of such images.
MAX_SIDE = 4096


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


def read_npz(path: str) -> tuple[ArraySource, ArraySource | None]:
    """Reads arrays from an `.npz` file, without pickle.

    Args:
      path: file with `images` (uint8 `[N, H, W]` or `[N, H, W, C]`) and `labels` (int
        `[N]`); `test_images` and `test_labels` if the test set is separate; `class_names`
        (strings) if they have names.

    Returns:
      The training images, and the test images or None.

    Raises:
      InputError: no such file, a file of another format, a missing array or a wrong dtype.
    """
    require(Path(path).exists(), "data.path", path, "the path of an .npz file")
    try:
        with open_npz(path, NAMES) as npz:
            _check_headers(npz.headers)
            return _parts(npz.read_all())
    except NpzError as e:
        raise InputError(
            f"data.path = {path!r} cannot be read as .npz ({e}); "
            "write it with numpy.savez(path, images=..., labels=...)"
        ) from e
    except InputError as e:
        raise InputError(f"data.path = {path!r}: {e}") from e


def _parts(arrays: dict[str, np.ndarray]) -> tuple[ArraySource, ArraySource | None]:
    classes = _class_names(arrays)

    def part(images: str, labels: str) -> ArraySource:
        return ArraySource(_with_channels(arrays[images]), check_labels(arrays[labels]), classes)

    train = part("images", "labels")
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
    for images, labels in parts:
        (shape, dtype), of = _shape_and_dtype(headers[images]), headers[labels]
        form = len(shape) == 4 and dtype == np.uint8 and min(shape) >= 1
        require(form, images, f"{dtype} {shape}", "uint8 [N, H, W] or [N, H, W, C]")
        require(max(shape[1:]) <= MAX_SIDE, images, shape, f"sides up to {MAX_SIDE}")
        rows = of.shape == shape[:1] and np.issubdtype(of.dtype, np.integer)
        require(
            rows, labels, f"{of.dtype} {of.shape}", f"one integer for each of {shape[0]} images"
        )
    if len(parts) == 2:
        own, test = (_shape_and_dtype(headers[name])[0][1:] for name, _ in parts)
        require(test == own, "test_images", test, f"{own}, the shape of the training images")
    if "class_names" in headers:
        names = headers["class_names"]
        text = names.dtype.kind in "USiu"
        require(len(names.shape) == 1 and text, "class_names", names.shape, "a list of text")


def _shape_and_dtype(header: Header) -> tuple[tuple[int, ...], np.dtype]:
    """`(N, H, W, C)`, as far as the header has them, and the type."""
    shape = (*header.shape, 1) if len(header.shape) == 3 else header.shape
    return shape, header.dtype


def _class_names(arrays: dict[str, np.ndarray]) -> tuple[str, ...]:
    """The names in the file; otherwise numbers, as many as these images can have."""
    labels = check_labels(arrays["labels"])
    if "class_names" in arrays:
        return tuple(visible(str(name)) for name in arrays["class_names"])
    most = len(labels) - 1
    if labels.max() > most:
        raise InputError(
            f"labels.max() = {labels.max()} is not allowed; use labels from 0 to at most {most}, "
            f"since {len(labels)} images have at most as many classes, or give class_names"
        )
    return tuple(str(c) for c in range(labels.max() + 1))


def _with_channels(images: np.ndarray) -> np.ndarray:
    return images[..., None] if images.ndim == 3 else images
