"""Given features with labels, such as embeddings of another network, from one or two files."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ltjax.data.labeled import classes_by_name, numbered_classes
from ltjax.data.rows import CHUNK, FeatureSource
from ltjax.data.tables import LEFT_OUT, Arrays, read_table
from ltjax.errors import InputError, check_labels, require, some_of, visible

# More features than any network gives; a covariance has the square of it.
MOST_FEATURES = 65_536
# Of a label or a name, which may be a path; a file can repeat a long one millions of times.
MOST_LETTERS = 4096
_TEXT = "USO"  # kinds of arrays of text


class Given(NamedTuple):
    """Features of a file to which a trained network is applied.

    Attributes:
      features: any real dtype, `[N, D]`; may be a memory map.
      names: one for each row; its number where the file gives none.
      labels: one for each row, a name or a number; None where the file gives none.
    """

    features: np.ndarray
    names: list[str]
    labels: list[str | int] | None


def read_features(
    path: str,
    test_path: str = "",
    validation_path: str = "",
    *,
    note: Callable[[str], None] = lambda line: None,
) -> tuple[FeatureSource, FeatureSource | None, FeatureSource | None]:
    """Reads features and their labels.

    Args:
      path: a file `.npz` or `.safetensors` with `features`, `labels` and, if there is a test part,
        `test_features` and `test_labels`; `.npy`, with the labels beside it in `NAME.labels.npy`
        or `NAME.labels.txt`; or `.parquet`, with one list column or float columns and a column
        `label`. Labels are class numbers from 0, which `class_names` may name, or strings.
      test_path: such a file with the test part; if empty, `path` may hold one.
      validation_path: such a file with the validation part, if there is one. Classes of another
        file are found by name where it, or the training part, has names.
      note: is told of columns that are left out, and of classes without a row.

    Returns:
      The training part, and the test part and the validation part or None.

    Raises:
      InputError: a file that cannot be read, or what is wrong with its content.

    Source: ours.
    """
    key = "data.path"
    arrays = read_table(path, key)
    train, test = _part(arrays, "", path, key, None), None
    if LEFT_OUT in arrays:
        columns = some_of(arrays[LEFT_OUT])
        note(
            f"columns of integers are not taken as features: {columns}; make them floats if they "
            "are some"
        )
    if gaps := [train.class_names[c] for c in np.flatnonzero(train.class_counts == 0)]:
        note(f"labels: no row has the label of class {some_of(gaps)}; it is never predicted")
    known = Known(train, arrays["labels"].dtype.kind in _TEXT)
    if test_path:
        test = _other(test_path, "data.test_path", known)
    elif "test_features" in arrays:
        test = _part(arrays, "test_", path, key, known)
    validation = None
    if validation_path:
        validation = _other(validation_path, "data.validation_path", known)
    return train, test, validation


class Known(NamedTuple):
    """What another part must agree with.

    Attributes:
      train: the training part.
      text: whether its labels are names in its file.
    """

    train: FeatureSource
    text: bool


def _other(path: str, key: str, known: Known) -> FeatureSource:
    return _part(read_table(path, key), "", path, key, known)


def read_given(path: str, size: int) -> Given:
    """Reads features to which a network is applied, with names and labels where there are some.

    Args:
      path: see `read_features`; labels are not needed.
      size: D, number of features that they must have.

    Returns:
      The features, their names and labels.

    Raises:
      InputError: a file that cannot be read, or what is wrong with its content.
    """
    key = "--input"
    arrays = read_table(path, key)
    features = _checked(arrays, "features", path, key)
    require(features.shape[1] == size, f"features of {path}", features.shape[1], f"{size} features")
    try:
        names, labels = (_one_each(arrays, name, len(features)) for name in ("names", "labels"))
        classes = _class_names(arrays)
        if labels and classes is not None:
            odd = [x for x in labels if isinstance(x, str) or not 0 <= x < len(classes)]
            require(not odd, "a label", odd[:1], f"numbers from 0 to {len(classes) - 1}")
            labels = [classes[int(x)] for x in labels]
    except InputError as e:
        raise InputError(f"{key} = {path!r}: {e}") from e
    return Given(features, [str(name) for name in names or range(len(features))], labels)


def _one_each(arrays: Arrays, name: str, rows: int) -> list[str | int] | None:
    """The names or the labels of the rows, as text or as integers; None where there are none."""
    if name not in arrays:
        return None
    found = _whole(arrays[name])
    require(found.shape == (rows,), name, found.shape, f"one for each of {rows} rows")
    if found.dtype.kind in "iu":
        most = np.iinfo(np.int64).max
        require(found.max() <= most, name, int(found.max()), f"integers up to {most}")
        return list(found.tolist())
    require(found.dtype.kind in _TEXT, name, str(found.dtype), "text or integers")
    return [visible(_text(x)) for x in found.tolist()]


def _whole(found: np.ndarray) -> np.ndarray:
    """Floats as integers where all of them are whole, since pandas makes floats of integers."""
    if found.dtype.kind != "f":
        return found
    wide = found.astype(np.float64)
    whole = np.isfinite(wide).all() and (abs(wide) < 2**53).all() and (wide % 1 == 0).all()
    return wide.astype(np.int64) if whole else found


def _class_names(arrays: Arrays) -> tuple[str, ...] | None:
    """The names of the classes, where the file gives any."""
    if "class_names" not in arrays:
        return None
    found = arrays["class_names"]
    text = found.ndim == 1 and found.dtype.kind in "USOiu"
    require(text, "class_names", f"{found.dtype} {found.shape}", "text [C]")
    return tuple(visible(_text(name)) for name in found.tolist())


def _part(arrays: Arrays, prefix: str, path: str, key: str, known: Known | None) -> FeatureSource:
    """One part of a file; its classes are those of the training part, if that is another."""
    features = _checked(arrays, f"{prefix}features", path, key)
    if known is not None and features.shape[1:] != known.train.image_shape:
        raise InputError(
            f"{key} = {path!r}: another part has {features.shape[1]} features, and the training "
            f"part {known.train.image_shape[0]}; give both the same"
        )
    try:
        found = _labels(arrays, prefix, len(features), Path(path))
        if known is None:
            labels, names = _classes(arrays, found)
        else:
            what = f"{'validation' if key == 'data.validation_path' else 'test'} labels"
            labels, names = _known(arrays, found, known, what), known.train.class_names
        positions = np.arange(len(features), dtype=np.int64)
        return FeatureSource(features, positions, labels, names)
    except InputError as e:
        raise InputError(f"{key} = {path!r}: {e}") from e


def _checked(arrays: Arrays, name: str, path: str, key: str) -> np.ndarray:
    """The features of a file: real numbers `[N, D]`, all of them finite in float32."""
    found = arrays.get(name)
    if found is None:
        raise InputError(f"{key} = {path!r} lacks the array {name!r}; it needs features and labels")
    shape, kind = found.shape, found.dtype
    if kind.kind not in "fiu" or len(shape) != 2 or 0 in shape or shape[1] > MOST_FEATURES:
        raise InputError(
            f"{key} = {path!r}: {name} = {kind} {shape} is not allowed; use numbers [N, D], D at "
            f"most {MOST_FEATURES}"
        )
    if kind.kind != "f":
        return found
    for start in range(0, len(found), CHUNK):
        with np.errstate(over="ignore"):
            rows = found[start : start + CHUNK].astype(np.float32)
        if not np.isfinite(rows).all():
            row, column = np.argwhere(~np.isfinite(rows))[0]
            value = found[start + row, column]
            raise InputError(
                f"{key} = {path!r}: feature {column} of row {start + row} is {value}, which is not "
                "finite in float32; remove the row, or repair it"
            )
    return found


# Where labels are looked for, by ending; the stem of the file takes the place of {}.
_LABELS_OF = {
    ".npy": "put them beside it, into {0}.labels.npy or {0}.labels.txt",
    ".parquet": "call their column label or labels",
}


def _labels(arrays: Arrays, prefix: str, rows: int, path: Path) -> np.ndarray:
    """The label of every row: class numbers, or names as a file has them."""
    found = arrays.get(f"{prefix}labels")
    if found is None:
        advice = _LABELS_OF.get(path.suffix, "give one label for each row").format(path.stem)
        raise InputError(f"it has no {prefix}labels; {advice}")
    require(found.shape == (rows,), f"{prefix}labels", found.shape, f"one for each of {rows} rows")
    if found.dtype.kind in _TEXT:
        return found
    if found.dtype.kind == "f" and np.isnan(found).any():
        row = int(np.argmax(np.isnan(found)))
        raise InputError(f"row {row} has no label; remove it, or give it one")
    return check_labels(_whole(found))


def _classes(arrays: Arrays, found: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """The class number of every row of the training part, and the names of the classes."""
    if found.dtype.kind in _TEXT:
        labels, names = _named(found)
        return labels, tuple(names)
    given = _class_names(arrays)
    return found, numbered_classes(found, "rows") if given is None else given


def _known(arrays: Arrays, found: np.ndarray, known: Known, what: str) -> np.ndarray:
    """The class number of every row of another part, by the training part's names."""
    classes = known.train.class_names
    if found.dtype.kind in _TEXT:
        return classes_by_name(*_named(found), classes, what)
    names = _class_names(arrays)
    if names == classes or (names is None and not known.text):
        return found
    return classes_by_name(found, names, classes, what)


def _named(found: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Numbers of labels that are names, and these names, sorted."""
    texts = np.array([visible(_text(one)) for one in found.tolist()], dtype=object)
    names, labels = np.unique(texts, return_inverse=True)
    if names[0] == "":
        raise InputError(f"row {int(np.argmax(labels == 0))} has an empty label; remove the row")
    return labels.astype(np.int64), names.tolist()


def _text(value: object) -> str:
    """A label or a name as text; bytes of NumPy's `S` type are UTF-8."""
    if not isinstance(value, str | bytes | int):
        raise InputError(f"a label of type {type(value).__name__} is not allowed; use text")
    if isinstance(value, str | bytes) and len(value) > MOST_LETTERS:
        raise InputError(f"a label has {len(value)} characters; use at most {MOST_LETTERS}")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
