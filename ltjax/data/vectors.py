"""Class vectors of a file, that a classifier starts from."""

import numpy as np

from ltjax.data.tables import READERS, read_table
from ltjax.errors import InputError, one_line

VECTOR_FILES = tuple(READERS)


def read_vectors(path: str, num_classes: int, size: int) -> np.ndarray:
    """Reads one vector for each class, such as the embeddings of texts that describe them.

    Args:
      path: a file `.npy`, or `.npz`, `.safetensors` or `.parquet` with `features`; its rows are in
        the order of the classes.
      num_classes: C.
      size: D, number of features that the classifier takes.

    Returns:
      float32 `[C, D]`.

    Raises:
      InputError: a file that cannot be read or has no such array, or an array of another shape,
        not of numbers, or not finite.
    """
    key = "config.model.head_init"
    found = read_table(path, key).get("features")
    where = f"{key} = {one_line(path, most=200)}"
    if found is None:
        raise InputError(f"{where} has no array named features; give the class vectors that name")
    if found.shape != (num_classes, size):
        raise InputError(
            f"{where} has the shape {found.shape}; {num_classes} classes with {size} features each "
            f"need ({num_classes}, {size})"
        )
    if found.dtype.kind not in "fiu":
        raise InputError(f"{where} holds {found.dtype} values; give numbers")
    with np.errstate(over="ignore"):
        vectors = np.asarray(found, np.float32)
    if not np.isfinite(vectors).all():
        raise InputError(f"{where} holds values that are not finite; give finite numbers")
    if not vectors.any(axis=1).all():
        empty = int(np.argmin(vectors.any(axis=1)))
        raise InputError(f"{where} holds only zeros for class {empty}; give it a vector")
    return vectors
