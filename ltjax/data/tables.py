"""Files of features: `.npz`, `.npy`, `.safetensors` and `.parquet`, of which nothing is believed.

Every reader gives arrays by name; what they hold is checked in one place, `ltjax.data.features`.
Nothing is unpickled. A `.npy` file is mapped into memory, so that it may be larger than that.
"""

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ltjax.data.files import open_regular, read_regular
from ltjax.data.npz import NpzError, read_arrays
from ltjax.errors import InputError

# Arrays that a file may hold; others are left alone.
NAMES = ("features", "labels", "names", "class_names", "test_features", "test_labels")
# Largest size in bytes of a text file of labels.
_MOST_LABELS = 2**31
# Columns of a table, in the order in which they are looked for.
LABEL_COLUMNS, NAME_COLUMNS = ("label", "labels"), ("name", "names")
# Beside the arrays: names of columns of numbers that are no features, where there are any.
LEFT_OUT = "left_out"

Arrays = dict[str, Any]


class TableError(ValueError):
    """The file cannot be read; the message is the reason only."""


def read_table(path: str, key: str) -> Arrays:
    """Reads the arrays of a file of features.

    Args:
      path: of the file; its suffix is one of `READERS`.
      key: what to call it in messages.

    Returns:
      Those of `NAMES` that the file has, and `LEFT_OUT`. `labels` and `names` may be strings.

    Raises:
      InputError: another suffix, no such file, or one that cannot be read.
    """
    suffix = Path(path).suffix
    if suffix not in READERS:
        raise InputError(f"{key} = {path!r} is not allowed; use a file {', '.join(READERS)}")
    try:
        with open_regular(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error that follows an odd header says more
            return READERS[suffix](path)
    except (TableError, NpzError) as e:
        reason = str(e)
    except MemoryError:
        reason = "there is not enough memory"
    except Exception as e:  # parsers of damaged bytes raise errors of many kinds
        reason = getattr(e, "strerror", None) or str(e) or type(e).__name__
    line = " ".join(reason.split())[:200]
    raise InputError(f"{key} = {path!r} cannot be read as {suffix} ({line}); {_ADVICE[suffix]}")


def _npz(path: str) -> Arrays:
    return dict(read_arrays(path, NAMES))


def _npy(path: str) -> Arrays:
    """The features of `X.npy`, and the labels of `X.labels.npy` or `X.labels.txt`."""
    found: Arrays = {"features": np.lib.format.open_memmap(path, mode="r")}
    beside = Path(path).with_suffix(".labels.npy")
    if beside.exists():
        with open_regular(beside):
            found["labels"] = np.asarray(np.lib.format.open_memmap(str(beside), mode="r"))
    elif (text := Path(path).with_suffix(".labels.txt")).exists():
        lines = read_regular(text, most=_MOST_LABELS).decode("utf-8", "replace").splitlines()
        found["labels"] = _parsed([line.strip() for line in lines])
    return found


def _parsed(lines: list[str]) -> np.ndarray:
    """Labels of a text file: integers where all of them are, else strings."""
    if all(line.isascii() and line.isdigit() and len(line) <= 9 for line in lines):
        return np.array(lines, np.int64) if lines else np.zeros(0, np.int64)
    return np.array(lines, dtype=object)


def _safetensors(path: str) -> Arrays:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        found: Arrays = {name: file.get_tensor(name) for name in NAMES if name in file.keys()}  # noqa: SIM118
        said = file.metadata() or {}
    for name, array in found.items():
        if array.dtype.kind == "V":  # bfloat16 and others that NumPy lacks
            found[name] = array.astype(np.float32)
    for name in ("class_names", "names"):  # there are no tensors of strings
        if name in said:
            found[name] = np.array(_strings(said[name], name), dtype=object)
    return found


def _strings(text: str, name: str) -> list[str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise TableError(f"{name} of its metadata is no JSON list of strings")
    return value


def _parquet(path: str) -> Arrays:
    """Features of one list column or of all float columns, and the columns of labels and names."""
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    chosen = _feature_columns(schema)
    label, name = (next((c for c in of if c in schema.names), None) for of in _COLUMNS)
    with pq.ParquetFile(path, read_dictionary=_texts(schema)) as file:
        rows = file.metadata.num_rows
        if not rows:
            raise TableError("it has no rows")
        count = _count(file.metadata, chosen)
        at_once = max(1, min(4096, _MOST_AT_ONCE * rows // max(count, 1)))
        parts: dict[str, list[Any]] = {"labels": [], "names": []}
        features: np.ndarray | None = None
        start = 0
        wanted = [*chosen, *(column for column in (label, name) if column)]
        for batch in file.iter_batches(at_once, columns=wanted):
            block = _block(batch, chosen, start)
            if features is None:
                features = _allocate(rows, block)
            if block.shape[1] != features.shape[1] or start + len(block) > rows:
                raise TableError(
                    f"row {start} has {block.shape[1]} features, and row 0 {features.shape[1]}"
                )
            features[start : start + len(block)] = block
            start += len(block)
            for key, column in (("labels", label), ("names", name)):
                if column is not None:
                    parts[key].append(_plain(batch.column(column), column))
    if features is None or start != rows:
        raise TableError(f"it is announced with {rows} rows and has {start}")
    found: Arrays = {key: np.concatenate(part) for key, part in parts.items() if part}
    left_out = [f.name for f in schema if _whole(f.type) and f.name not in _TAKEN]
    if left_out and chosen == _floats(schema):
        found[LEFT_OUT] = left_out
    return {"features": features, **found}


_COLUMNS = (LABEL_COLUMNS, NAME_COLUMNS)
_TAKEN = {*LABEL_COLUMNS, *NAME_COLUMNS}


def _texts(schema: Any) -> list[str]:
    """The columns of text, which stays in memory once where it repeats."""
    import pyarrow as pa

    return [f.name for f in schema if f.name in _TAKEN and pa.types.is_string(f.type)]


# Numbers that are decoded at once. Zeros of a few kilobytes can be billions of them.
_MOST_AT_ONCE = 2**24


def _count(metadata: Any, chosen: list[str]) -> int:
    """How many numbers the columns of features hold, before any is decoded."""
    prefixes = tuple(f"{name}." for name in chosen)
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    columns = [group.column(i) for group in groups for i in range(group.num_columns)]
    return sum(c.num_values for c in columns if f"{c.path_in_schema}.".startswith(prefixes))


def _feature_columns(schema: Any) -> list[str]:
    import pyarrow as pa

    def numbers(kind: Any) -> bool:
        listed = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        listed = listed or pa.types.is_fixed_size_list(kind)
        return listed and (pa.types.is_floating(kind.value_type) or _whole(kind.value_type))

    lists = [field.name for field in schema if numbers(field.type)]
    if "features" in lists:
        return ["features"]
    if len(lists) > 1:
        raise TableError(
            f"it has the list columns {', '.join(lists[:5])}; name one of them features"
        )
    floats = _floats(schema)
    if not lists and not floats:
        raise TableError("it has neither a list column nor float columns")
    if len(set(schema.names)) < len(schema.names):
        raise TableError("two of its columns have one name")
    return lists or floats


def _floats(schema: Any) -> list[str]:
    import pyarrow as pa

    return [f.name for f in schema if pa.types.is_floating(f.type) and f.name not in _TAKEN]


def _whole(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind))


def _block(batch: Any, chosen: list[str], start: int) -> np.ndarray:
    """The features of some rows, `[rows, D]`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    first = batch.column(chosen[0])
    if pa.types.is_floating(first.type):
        columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in chosen]
        return np.stack(columns, axis=1)
    if first.null_count:
        raise TableError(f"one of the rows {start} to {start + len(first) - 1} has no features")
    lengths = pc.list_value_length(first).to_numpy(zero_copy_only=False)
    if len(np.unique(lengths)) > 1:
        odd = int(np.argmax(lengths != lengths[0]))
        raise TableError(
            f"row {start + odd} has {lengths[odd]} features, and row {start} {lengths[0]}"
        )
    values = first.flatten()
    flat = values.to_numpy(zero_copy_only=False)
    return flat.reshape(len(first), -1)


def _allocate(rows: int, block: np.ndarray) -> np.ndarray:
    kind = np.float16 if block.dtype == np.float16 else np.float32
    needed = rows * block.shape[1] * np.dtype(kind).itemsize
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    if needed > most:
        raise TableError(
            f"its features take {needed / 2**30:.1f} GiB, more than half of this machine's memory, "
            f"{most / 2**30:.1f} GiB; a .npy file may be larger"
        )
    return np.empty((rows, block.shape[1]), kind)


def _plain(column: Any, name: str) -> np.ndarray:
    """A column of labels or names as integers, floats or strings."""
    import pyarrow as pa

    if column.null_count:
        raise TableError(f"the column {name} has empty cells")
    values = column.dictionary if pa.types.is_dictionary(column.type) else column
    found: np.ndarray = values.to_numpy(zero_copy_only=False)
    return found if values is column else found[column.indices.to_numpy()]


READERS: dict[str, Callable[[str], Arrays]] = {
    ".npz": _npz,
    ".npy": _npy,
    ".safetensors": _safetensors,
    ".parquet": _parquet,
}
_ADVICE = {
    ".npz": "write it with numpy.savez(path, features=..., labels=...)",
    ".npy": "write it with numpy.save(path, features), and the labels beside as NAME.labels.npy",
    ".safetensors": (
        "write it with safetensors.numpy.save_file({'features': ..., 'labels': ...}, path)"
    ),
    ".parquet": "give it a list column features, or float columns, and a column label",
}
