"""Parquet files: tables of labels, and image folders of Hugging Face `datasets` on disk."""

import contextlib
import functools
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ltjax.data.labeled import classes_by_name
from ltjax.data.sources import EncodedSource
from ltjax.errors import InputError, one_line, shown, visible

# Row groups that are kept in memory; images of one are often read after each other.
_KEPT = 4
_opening = threading.Lock()


@dataclass(frozen=True)
class ParquetReader:
    """Reads images of a column of Parquet files, whose cells have `bytes`.

    Attributes:
      files: paths.
      starts: position of the first row of each row group of each file, and the number of all rows.
      groups: file and row group, one pair for each of `starts` but the last.
      column: name of the column.
      identity: what is read, for fingerprints.
    """

    files: tuple[str, ...]
    starts: tuple[int, ...]
    groups: tuple[tuple[int, int], ...]
    column: str
    identity: str

    def read(self, position: int) -> bytes:
        """Reads an image.

        Args:
          position: number of its row among those of all files.

        Returns:
          The content of its file.

        Raises:
          OSError: the row holds no bytes, or cannot be read.
        """
        group = int(np.searchsorted(self.starts, position, side="right")) - 1
        file, number = self.groups[group]
        try:
            with _opening:
                cells = _row_group(self.files[file], number, self.column)
            found = cells[position - self.starts[group]].as_py()
        except Exception as e:  # of pyarrow, whose errors are of many kinds
            raise OSError(0, one_line(e, most=200)) from e
        if not found:
            raise OSError(0, "the row holds no bytes of an image")
        return bytes(found)

    def name(self, position: int) -> str:
        """File and row of an image, for a message.

        Args:
          position: number of its row.

        Returns:
          The words.
        """
        group = int(np.searchsorted(self.starts, position, side="right")) - 1
        file, _ = self.groups[group]
        first = next(s for s, (f, _) in zip(self.starts, self.groups, strict=False) if f == file)
        return f"{one_line(self.files[file])} row {position - first}"


@functools.lru_cache(maxsize=_KEPT)
def _row_group(path: str, number: int, column: str) -> Any:
    """The bytes of the images of a row group."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        cells = file.read_row_group(number, columns=[column]).column(column).combine_chunks()
    return cells.field("bytes") if hasattr(cells, "field") else cells


def split_files(root: str) -> dict[str, list[str]]:
    """The Parquet files of each split below a folder, as `datasets` and its hub name them.

    Args:
      root: folder with `train-00000-of-00001.parquet` or the like, perhaps in `data/`.

    Returns:
      Sorted paths by split: `train`, `test`, `validation`, where there are any.
    """
    files = sorted(str(path) for path in Path(root).rglob("*.parquet"))
    splits = ("train", "test", "validation")
    found = {s: [f for f in files if Path(f).name.lower().startswith(s)] for s in splits}
    return {split: paths for split, paths in found.items() if paths}


def read_images(
    files: Sequence[str],
    *,
    size: int,
    classes: tuple[str, ...] | None = None,
    text: bool = False,
) -> EncodedSource:
    """Reads the labels of a split; images are read when they are needed.

    Args:
      files: its Parquet files, with the columns `image` (`bytes`) and `label`.
      size: side in pixels of the square that the network sees.
      classes: names of all classes, as the training part has them; None takes them from the files.
      text: whether the labels of the training part are names, see `has_text_labels`.

    Returns:
      The images.

    Raises:
      InputError: a file that cannot be read, that lacks a column, or has other classes.
    """
    import pyarrow.parquet as pq

    labels: list[Any] = []
    starts, groups = [0], []
    column, own = "", None
    for number, path in enumerate(files):
        with _readable(path, "data.dir"), pq.ParquetFile(path) as file:
            column, label = _image_columns(file.schema_arrow, path)
            own = own or _class_names(file.schema_arrow, label)
            labels += file.read(columns=[label]).column(label).to_pylist()
            for group in range(file.num_row_groups):
                groups.append((number, group))
                starts.append(starts[-1] + file.metadata.row_group(group).num_rows)
    if None in labels:
        raise InputError(f"data.dir: {files[0]} has an image without a label")
    numbers, names = _numbered(labels, own, classes, text, f"data.dir: {files[0]}")
    identity = "\n".join([*(Path(path).name for path in files), str(starts)])
    reader = ParquetReader(tuple(files), tuple(starts), tuple(groups), column, identity)
    return EncodedSource(reader, np.arange(len(numbers)), numbers, names, size)


def _numbered(
    labels: list[Any],
    own: tuple[str, ...] | None,
    classes: tuple[str, ...] | None,
    text: bool,
    what: str,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class numbers `[N]` of a split whose files name them `own`, and the names of all classes."""
    named, names = bool(labels) and isinstance(labels[0], str), classes or own
    if named:
        names = names or tuple(sorted({visible(name) for name in labels}))
        place = {name: c for c, name in enumerate(names)}
        labels = [place.get(visible(name), -1) for name in labels]
    numbers = np.array(labels, np.int64)
    if not len(numbers) or numbers.min() < 0:
        raise InputError(f"{what} has no image, or one of a class that training lacks")
    if classes and not named and own != classes and (own or text):
        try:
            numbers = classes_by_name(numbers, own, classes, "its labels")
        except InputError as e:
            raise InputError(f"{what}: {e}") from e
    return numbers, names or tuple(map(str, range(int(numbers.max()) + 1)))


def has_text_labels(path: str) -> bool:
    """Whether the labels of a file are names.

    Args:
      path: of a Parquet file with the columns that `read_images` reads.

    Returns:
      False where they are numbers, which the file may name.

    Raises:
      InputError: the file cannot be read, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _readable(path, "data.dir"):
        schema = pq.read_schema(path)
        kind = schema.field(_image_columns(schema, path)[1]).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _image_columns(schema: Any, path: str) -> tuple[str, str]:
    names = set(schema.names)
    image = next((n for n in ("image", "img", "pixels") if n in names), None)
    label = next((n for n in ("label", "labels", "fine_label", "class") if n in names), None)
    if image is None or label is None:
        raise InputError(
            f"data.dir: {path} has the columns {', '.join(schema.names)}; it needs image and label"
        )
    return image, label


def _class_names(schema: Any, label: str) -> tuple[str, ...] | None:
    """Names of the classes, which `datasets` keeps in the metadata."""
    about = (schema.metadata or {}).get(b"huggingface", b"")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        features = json.loads(about)["info"]["features"]
        return tuple(visible(str(name)) for name in features[label]["names"])
    return None


def read_columns(
    path: str, known: Sequence[Sequence[str]], key: str
) -> tuple[list[Any], list[Any]]:
    """Two columns of a table.

    Args:
      path: of the Parquet file.
      known: the names that each of the columns may have.
      key: what to call the path in messages.

    Returns:
      The columns as lists.

    Raises:
      InputError: the file cannot be read, or lacks a column.
    """
    import pyarrow.parquet as pq

    with _readable(path, key), pq.ParquetFile(path) as file:
        names = {name.lower(): name for name in file.schema_arrow.names}
        found = [next((names[n] for n in column if n in names), None) for column in known]
        if None in found:
            one_of = " and ".join(f"{c[0]} (or {', '.join(c[1:])})" for c in known)
            raise InputError(
                f"{key} = {path!r} has the columns {', '.join(names)}; it needs {one_of}"
            )
        table = file.read(columns=found)
        first, second = (table.column(name).to_pylist() for name in found)
    for number, pair in enumerate(zip(first, second, strict=True), 1):
        if None in pair:
            raise InputError(f"{key} = {path!r}, row {number}: {shown(pair)} is not path and label")
    return first, second


@contextlib.contextmanager
def _readable(path: str, key: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as e:  # pyarrow's errors are of many kinds
        raise InputError(
            f"{key}: {one_line(path)} cannot be read as Parquet ({one_line(e, most=200)})"
        ) from e
