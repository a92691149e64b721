"""Images in files: a folder per class, or a list of paths and labels."""

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ltjax.data.cache import Cache
from ltjax.data.decode import MAX_BYTES
from ltjax.data.files import open_regular, read_regular
from ltjax.data.sources import EncodedSource
from ltjax.errors import InputError, one_line, require, shown, visible

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
# Largest size of a list in bytes, and of a line of it in characters.
_MAX_LIST_BYTES = 2**31
_LONGEST_LINE = 8192


@dataclass(frozen=True)
class FileReader:
    """Reads files below a root folder.

    Attributes:
      root: the folder.
      paths: of the files, relative to it.
    """

    root: str
    paths: tuple[str, ...]

    @property
    def identity(self) -> str:
        """The file names without the root: moving a data set does not change it."""
        return "\n".join(self.paths)

    def read(self, position: int) -> bytes:
        """Reads a file.

        Args:
          position: of its path in `paths`.

        Returns:
          Its content.

        Raises:
          OSError: see `ltjax.data.files.open_regular`.
        """
        return read_regular(os.path.join(self.root, self.paths[position]), most=MAX_BYTES)

    def name(self, position: int) -> str:
        """The path of a file for a message, printable whatever its bytes.

        Args:
          position: of its path in `paths`.

        Returns:
          The path, with the root.
        """
        return one_line(os.path.join(self.root, self.paths[position]))


def read_folder(
    root: str, *, size: int, classes: tuple[str, ...] | None = None, key: str = "data.dir"
) -> EncodedSource:
    """Finds the images in `root/CLASS/name.jpg`, sorted by class name, then by file name.

    The list of files is kept in a cache, keyed by the class folders and the times of their last
    change, so that the next start does not scan the folders again.

    Args:
      root: folder with one folder per class.
      size: side in pixels of the square that the network sees.
      classes: names of all classes in order, as the training part has them; None takes the
        names of the folders.
      key: what to call `root` in messages.

    Returns:
      The images, which are read and decoded when they are needed.

    Raises:
      InputError: `root` is not a folder, has no class folder, has one that is not in `classes`, or
        has no image.
    """
    folders = _class_folders(root, key)
    names = tuple(visible(name) for name, _ in folders)
    classes = classes or names
    unknown = sorted(set(names) - set(classes))
    if unknown:
        raise InputError(
            f"{key} = {root!r} has the class {unknown[0]!r}, which the training images lack; "
            "give both parts the same class folders"
        )
    cache = Cache(Path(root), "folder", repr(folders), ("paths", "labels"))
    listing = cache.load()
    if listing is None:
        listing = _list_images(root, [name for name, _ in folders])
        cache.store(listing)
    if not len(listing["paths"]):
        raise InputError(
            f"{key} = {root!r} has class folders but no image in them; "
            f"names must end in {', '.join(SUFFIXES)}"
        )
    paths = tuple(os.fsdecode(path) for path in listing["paths"].tolist())
    labels = np.array([classes.index(name) for name in names], np.int64)[listing["labels"]]
    positions = np.arange(len(labels), dtype=np.int64)
    return EncodedSource(FileReader(root, paths), positions, labels, classes, size)


def _class_folders(root: str, key: str) -> list[tuple[str, int]]:
    """Name and time of the last change (ns) of every class folder, sorted by name."""
    require(os.path.isdir(root), key, root, "a folder with one folder of images per class")
    with os.scandir(root) as entries:
        folders = sorted(
            (entry.name, entry.stat().st_mtime_ns)
            for entry in entries
            if os.path.isdir(entry.path) and not entry.name.startswith(".")  # False for a loop
        )
    if not folders:
        raise InputError(
            f"{key} = {root!r} has no class folders; put the images into {root}/CLASS/"
        )
    return folders


def _list_images(root: str, folders: list[str]) -> dict[str, np.ndarray]:
    """Paths below `root` (bytes) and place of the folder in `folders`, one for each image."""
    paths: list[bytes] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        files = sorted(name for name in os.listdir(os.path.join(root, folder)) if _is_image(name))
        paths += [os.fsencode(os.path.join(folder, name)) for name in files]
        labels += [label] * len(files)
    return {"paths": np.array(paths, dtype="S"), "labels": np.array(labels, np.int64)}


def read_list(
    path: str, root: str, *, size: int, classes: int | None = None, key: str = "data.path"
) -> EncodedSource:
    """Reads a list file with one line `path label` per image, such as `ImageNet_LT_train.txt`.

    Args:
      path: the list.
      root: folder that the listed paths are relative to.
      size: side in pixels of the square that the network sees.
      classes: number of classes; None is the largest label plus one.
      key: what to call `path` in messages.

    Returns:
      The images, which are read and decoded when they are needed; classes are named by number.

    Raises:
      InputError: no such file, a line of another form, or a label out of range.
    """
    require(os.path.exists(path), key, path, "a file with lines 'path label'")
    require(
        os.path.isdir(root), "data.dir", root, "the folder that the listed paths are relative to"
    )
    paths, labels, where = _list_lines(path, key)
    top = max(labels)
    if classes is not None and top >= classes:
        raise InputError(
            f"{key} = {path!r}: label {top} is out of range; the training list has classes 0 to "
            f"{classes - 1}"
        )
    if classes is None and top >= len(labels):
        raise InputError(
            f"{key} = {path!r}, line {where}: label {top} is out of range; a list of "
            f"{len(labels)} images has at most as many classes, 0 to {len(labels) - 1}"
        )
    names = tuple(str(c) for c in range(classes or top + 1))
    positions = np.arange(len(labels), dtype=np.int64)
    reader = FileReader(root, tuple(paths))
    return EncodedSource(reader, positions, np.array(labels, np.int64), names, size)


def _list_lines(path: str, key: str) -> tuple[list[str], list[int], int]:
    """Paths and labels of a list, and the number of the first line with the largest label."""
    paths: list[str] = []
    labels: list[int] = []
    top = where = -1
    try:
        content = open_regular(path, most=_MAX_LIST_BYTES)
    except OSError as e:
        raise InputError(f"{key} = {path!r} cannot be read: {e.strerror}") from e
    with io.TextIOWrapper(content, encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), ""), 1):
            text = line.strip()
            if not text:
                continue
            name, _, label = text.rpartition(" ")
            # Nine digits are more than enough for a class; NUL ends no path that could be opened.
            digits = label.isascii() and label.isdigit() and len(label) <= 9
            if not name or not digits or "\0" in name or len(line) == _LONGEST_LINE:
                raise InputError(
                    f"{key} = {path!r}, line {number}: {shown(text[:80])} is not 'path label'"
                )
            paths.append(name)
            labels.append(int(label))
            if labels[-1] > top:
                top, where = labels[-1], number
    if not paths:
        raise InputError(f"{key} = {path!r} is empty; it needs lines 'path label'")
    return paths, labels, where


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")
