"""Sources whose images are in memory: the digits of scikit-learn, and `.npz` files."""

import importlib.util
import zipfile
from pathlib import Path

import numpy as np

from ltjax.data.sources import ArraySource
from ltjax.errors import InputError, check_labels, require


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


def _with_channels(images: np.ndarray) -> np.ndarray:
    return images[..., None] if images.ndim == 3 else images
