"""Lists of images in files: lines `path label`, or tables with the columns path and label."""

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ltjax.data.files import open_regular
from ltjax.data.folder import FileReader
from ltjax.data.parquet import read_columns
from ltjax.data.sources import EncodedSource
from ltjax.errors import InputError, require, shown, visible

# Endings of lists; those of tables have named columns, every other has lines `path label`.
CSV, PARQUET = ".csv", ".parquet"
LIST_ENDINGS = (".txt", CSV, PARQUET)
# Largest size of a list in bytes, and of a line of it in characters.
_MAX_LIST_BYTES = 2**31
_LONGEST_LINE = 8192
# What the columns may be called, in lower case.
_COLUMNS = (
    ("path", "image", "file", "file_name", "filename", "filepath", "image_path"),
    ("label", "class", "category", "class_name", "target"),
)


class Row(NamedTuple):
    """A line of a list.

    Attributes:
      number: of the line.
      path: of the image.
      label: number or name of its class.
    """

    number: int
    path: str
    label: str


def read_list(
    path: str,
    root: str,
    *,
    size: int,
    classes: tuple[str, ...] | None = None,
    key: str = "data.path",
) -> EncodedSource:
    """Reads a list of images: lines `path label`, as in `ImageNet_LT_train.txt`, or a table.

    A `.csv` or `.parquet` file has the columns `path` and `label`. Labels that are all integers are
    class numbers from 0 on; otherwise they are the names of the classes.

    Args:
      path: the list.
      root: folder that the listed paths are relative to.
      size: side in pixels of the square that the network sees.
      classes: names of all classes in order, as the training list has them; None takes them from
        the list.
      key: what to call `path` in messages.

    Returns:
      The images, which are read and decoded when they are needed.

    Raises:
      InputError: no such file, a line of another form, or a label out of range.
    """
    if path and not os.path.lexists(path):
        raise InputError(f"{key} = {shown(path)} does not exist; give a list of images")
    require(os.path.exists(path), key, path, "a file with lines 'path label'")
    require(
        os.path.isdir(root), "data.dir", root, "the folder that the listed paths are relative to"
    )
    rows = list(_rows(path, root, key))
    if not rows:
        raise InputError(f"{key} = {path!r} is empty; it needs lines 'path label'")
    labels, names = _numbered(rows, classes, f"{key} = {path!r}")
    positions = np.arange(len(rows), dtype=np.int64)
    reader = FileReader(root, tuple(row.path for row in rows))
    return EncodedSource(reader, positions, labels, names, size)


def _rows(path: str, root: str, key: str) -> Iterator[Row]:
    kind = Path(path).suffix.lower()
    if kind == PARQUET:
        paths, labels = read_columns(path, _COLUMNS, key)
        for number, (name, label) in enumerate(zip(paths, labels, strict=True), 1):
            yield Row(number, str(name), visible(str(label)))
        return
    try:
        content = open_regular(path, most=_MAX_LIST_BYTES)
    except OSError as e:
        raise InputError(f"{key} = {path!r} cannot be read: {e.strerror}") from e
    with io.TextIOWrapper(content, encoding="utf-8-sig", errors="surrogateescape") as file:
        if kind == CSV:
            yield from _csv_rows(file, root, f"{key} = {path!r}")
        else:
            yield from _lines(file, path, key)


def _lines(file: io.TextIOWrapper, path: str, key: str) -> Iterator[Row]:
    """Lines `path label`, where the label is a number and the path may have spaces."""
    for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), ""), 1):
        text = line.strip()
        if not text:
            continue
        name, _, label = text.rpartition(" ")
        # NUL ends no path that could be opened.
        if not name or not _is_number(label) or "\0" in name or len(line) == _LONGEST_LINE:
            advice = ""
            if name and not _is_number(label):
                advice = (
                    ", label a class number from 0; for names give a .csv or .parquet list with "
                    "the columns path and label"
                )
            raise InputError(
                f"{key} = {path!r}, line {number}: {shown(text[:80])} is not 'path label'{advice}"
            )
        yield Row(number, name, label)


def _csv_rows(file: io.TextIOWrapper, root: str, what: str) -> Iterator[Row]:
    """Rows of a CSV file with a header, or of two columns without one."""
    table = csv.reader(file, strict=True)
    places: list[int] | None = None
    try:
        for cells in table:
            if not cells:
                continue
            if places is None:
                places = column_places(cells)
                if places is not None:
                    continue
                _check_no_header(cells, root, f"{what}, line {table.line_num}")
                places = [0, 1]
            if len(cells) <= max(places) or not all(cells[place] for place in places):
                raise InputError(
                    f"{what}, line {table.line_num}: {shown(','.join(cells)[:80])} is not "
                    "'path,label'"
                )
            yield Row(table.line_num, cells[places[0]], visible(cells[places[1]].strip()))
    except csv.Error as e:
        raise InputError(f"{what}, line {table.line_num}: it is no CSV ({e})") from e


def column_places(header: list[str]) -> list[int] | None:
    """Where the columns of paths and labels are.

    Args:
      header: names of the columns.

    Returns:
      Their two places; None if a name is missing.

    >>> column_places(["id", "Label", "file_name"])
    [2, 1]
    """
    names = [name.strip().lower() for name in header]
    places = [next((names.index(n) for n in known if n in names), None) for known in _COLUMNS]
    return None if None in places else [place for place in places if place is not None]


def _check_no_header(cells: list[str], root: str, where: str) -> None:
    """Refuses a first row that is a header of other names: no file, and nothing with an ending."""
    first = cells[0].strip()
    if Path(first).suffix or "\0" in first or os.path.lexists(os.path.join(root, first)):
        return
    one_of = " and ".join(f"{known[0]} (or {', '.join(known[1:])})" for known in _COLUMNS)
    raise InputError(
        f"{where}: {shown(','.join(cells)[:80])} names neither an image nor the columns; call them "
        f"{one_of}"
    )


def _is_number(label: str) -> bool:
    # Nine digits are more than enough for a class.
    return label.isascii() and label.isdigit() and len(label) <= 9


def _numbered(
    rows: list[Row], classes: tuple[str, ...] | None, what: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class numbers `[N]` of the rows, and the names of all classes."""
    numbers = all(_is_number(row.label) for row in rows)
    if numbers and (classes is None or classes == tuple(map(str, range(len(classes))))):
        return _of_numbers(rows, classes, what)
    names = classes or tuple(sorted({row.label for row in rows}))
    place = {name: c for c, name in enumerate(names)}
    for row in rows:
        if row.label not in place:
            raise InputError(
                f"{what}, line {row.number}: label {shown(row.label)} is no class of the training "
                "list"
            )
    return np.array([place[row.label] for row in rows], np.int64), names


def _of_numbers(
    rows: list[Row], classes: tuple[str, ...] | None, what: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    labels = np.array([int(row.label) for row in rows], np.int64)
    place = int(labels.argmax())
    top, where = int(labels[place]), rows[place].number
    if classes is not None and top >= len(classes):
        raise InputError(
            f"{what}: label {top} is out of range; the training list has classes 0 to "
            f"{len(classes) - 1}"
        )
    if classes is None and top >= len(rows):
        raise InputError(
            f"{what}, line {where}: label {top} is out of range; a list of {len(rows)} images has "
            f"at most as many classes, 0 to {len(rows) - 1}"
        )
    return labels, classes or tuple(map(str, range(top + 1)))
