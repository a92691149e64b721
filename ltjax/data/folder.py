"""Images in files: a folder per class, or a list of paths and labels."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ltjax.data.cache import Cache
from ltjax.data.sources import EncodedSource
from ltjax.errors import InputError, require

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class FileReader:
    """Files below a root."""

    root: str
    paths: tuple[str, ...]

    @property
    def identity(self) -> str:
        """The names, not the root: a data set may be moved."""
        return "\n".join(self.paths)

    def read(self, position: int) -> bytes:
        """The file's content."""
        with open(os.path.join(self.root, self.paths[position]), "rb") as file:
            return file.read()

    def name(self, position: int) -> str:
        """Its path, printable whatever its bytes."""
        path = os.path.join(self.root, self.paths[position])
        return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def read_folder(
    root: str, *, size: int, classes: tuple[str, ...] | None = None, key: str = "data.dir"
) -> EncodedSource:
    """Images in `root/class/name.jpg`; classes and files in the order of their names.

    The names found are kept in a cache beside the data, keyed by the classes and by when their
    folders last changed, so that the next start does not scan them again.

    Args:
      root: folder with a folder for every class.
      size: pixels of the square that the network sees.
      classes: names of all classes, in order; None takes the folders'.
      key: what to call `root` in messages.

    Raises:
      InputError: no such folder, no class in it, a class that is not one of `classes`, or no
        image.
    """
    require(os.path.isdir(root), key, root, "a folder with a folder of images for every class")
    with os.scandir(root) as entries:
        found = sorted((e.name, e.stat().st_mtime_ns) for e in entries if _is_class(e))
    if not found:
        raise InputError(
            f"{key} = {root!r} has no folder of a class in it; put images in {root}/CLASS/"
        )
    names = tuple(_printable(name) for name, _ in found)
    unknown = sorted(set(names) - set(classes or names))
    if unknown:
        raise InputError(
            f"{key} = {root!r} has the class {unknown[0]!r}, which the training images lack; "
            "give both the same class folders"
        )
    cache = Cache(Path(root), "folder", repr(found))
    stored = cache.load()
    if stored is None:
        listed: list[str] = []
        numbers: list[int] = []
        for label, (name, _) in enumerate(found):
            files = sorted(f for f in os.listdir(os.path.join(root, name)) if _is_image(f))
            listed += [os.path.join(name, f) for f in files]
            numbers += [label] * len(files)
        stored = {
            "paths": np.array([os.fsencode(p) for p in listed], dtype="S"),
            "labels": np.array(numbers, np.int64),
        }
        cache.store(stored)
    if not len(stored["paths"]):
        raise InputError(
            f"{key} = {root!r} has class folders but no image in them; "
            f"names must end in {', '.join(SUFFIXES)}"
        )
    paths = tuple(os.fsdecode(p) for p in stored["paths"].tolist())
    labels = stored["labels"]
    if classes is not None:
        labels = np.array([classes.index(name) for name in names], np.int64)[labels]
    positions = np.arange(len(labels), dtype=np.int64)
    return EncodedSource(FileReader(root, paths), positions, labels, classes or names, size)


def read_list(
    path: str, root: str, *, size: int, classes: int | None = None, key: str = "data.path"
) -> EncodedSource:
    """Images of a list file with a line `path label` for each, such as `ImageNet_LT_train.txt`.

    Args:
      path: the list.
      root: folder that its paths start from.
      size: pixels of the square that the network sees.
      classes: number of classes; None is one more than the largest label.
      key: what to call `path` in messages.

    Raises:
      InputError: no such file, a line of another form, or a label out of range.
    """
    require(os.path.isfile(path), key, path, "a file with lines 'path label'")
    require(
        os.path.isdir(root), "data.dir", root, "the folder that the paths of the list start from"
    )
    paths, labels = [], []
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            name, _, label = line.strip().rpartition(" ")
            if not name or not label.isascii() or not label.isdigit():
                shown = _printable(line.strip())[:80]
                raise InputError(f"{key} = {path!r}, line {number}: {shown!r} is not 'path label'")
            paths.append(name)
            labels.append(int(label))
    if not paths:
        raise InputError(f"{key} = {path!r} has no lines; it needs lines 'path label'")
    top = max(labels)
    if classes is not None and top >= classes:
        raise InputError(
            f"{key} = {path!r}: label {top} is out of range; the training list has classes 0 to "
            f"{classes - 1}"
        )
    names = tuple(str(c) for c in range(classes or top + 1))
    positions = np.arange(len(labels), dtype=np.int64)
    reader = FileReader(root, tuple(paths))
    return EncodedSource(reader, positions, np.array(labels, np.int64), names, size)


def _is_class(entry: os.DirEntry) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
