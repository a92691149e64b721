"""Images in files: a folder per class, perhaps within folders of the splits."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ltjax.data.decode import MAX_BYTES
from ltjax.data.files import read_regular
from ltjax.data.scan import SUFFIXES, Listing, ignored_words, is_image, is_junk, list_images
from ltjax.data.sources import EncodedSource
from ltjax.errors import InputError, one_line, require, shown, some_of, visible

# What a folder beside others is taken for, by its name in lower case.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}
Note = Callable[[str], None]


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


def _no_note(line: str) -> None:
    pass


def split_folders(root: str, *, note: Note = _no_note) -> dict[str, str]:
    """Finds the folders of the splits below a root, by the names of `SPLITS`.

    A folder that holds images itself is a class of that name, not a split.

    Args:
      root: folder to look in.
      note: is told what lies beside the splits and is not read.

    Returns:
      Path of the folder of each split, by the keys of `SPLITS`; empty if there is no `train`.

    Raises:
      InputError: two folders mean the same split, or there is one of a test but none of training.

    Source: ours.
    """
    try:
        names = sorted(e.name for e in os.scandir(root) if os.path.isdir(e.path))
    except OSError:  # `read_folder` says what is wrong with it
        return {}
    names = [name for name in names if not is_junk(name)]
    found: dict[str, str] = {}
    for split, meant in SPLITS.items():
        folders = [n for n in names if n.lower() in meant and not _holds_images(root, n)]
        if len(folders) > 1:
            raise InputError(
                f"data.dir = {root!r} has {' and '.join(folders)}, which both mean the {split} "
                "part; leave one, or merge them"
            )
        if folders:
            found[split] = folders[0]
    if found and "train" not in found:
        raise InputError(
            f"data.dir = {root!r} has {' and '.join(found.values())} but no folder train; name the "
            "folder of the training images train"
        )
    beside = sorted(set(names) - set(found.values()))
    if found and beside:
        note(f"beside {', '.join(found.values())} these folders are not read: {some_of(beside)}")
    return {split: os.path.join(root, name) for split, name in found.items()}


def _holds_images(root: str, name: str) -> bool:
    with os.scandir(os.path.join(root, name)) as entries:
        # `os.path`, since a link to itself is an error for `entry.is_file`.
        return any(is_image(entry.name) and os.path.isfile(entry.path) for entry in entries)


def read_folder(
    root: str,
    *,
    size: int,
    classes: tuple[str, ...] | None = None,
    key: str = "data.dir",
    note: Note = _no_note,
) -> EncodedSource:
    """Finds the images in `root/CLASS/`, to the bottom, sorted by class name, then by path.

    A class folder without an image is left out.

    Args:
      root: folder with one folder per class.
      size: side in pixels of the square that the network sees.
      classes: names of all classes in order, as the training part has them; None takes the
        names of the folders.
      key: what to call `root` in messages.
      note: is told what is left out, and what is read though it lies deeper.

    Returns:
      The images, which are read and decoded when they are needed.

    Raises:
      InputError: `root` is not a folder, has no class folder, has images of a class that is not in
        `classes`, or has no image.
    """
    folders = _class_folders(root, key, note)
    listing = list_images(root, folders)
    if not listing.paths:
        raise InputError(
            f"{key} = {root!r} has class folders but no image in them; "
            f"names must end in {', '.join(SUFFIXES)}"
        )
    counts = np.bincount(listing.labels, minlength=len(folders))
    _tell(root, folders, counts, listing, note)
    names = [visible(name) for name in folders]
    kept = tuple(name for name, count in zip(names, counts, strict=True) if count)
    classes = classes or kept
    unknown = sorted(set(kept) - set(classes))
    if unknown:
        raise InputError(
            f"{key} = {root!r} has the class {unknown[0]!r}, which the training images lack; "
            "give both parts the same class folders"
        )
    number = {name: c for c, name in enumerate(classes)}
    labels = np.array([number.get(name, -1) for name in names], np.int64)[listing.labels]
    positions = np.arange(len(labels), dtype=np.int64)
    return EncodedSource(FileReader(root, listing.paths), positions, labels, classes, size)


def _class_folders(root: str, key: str, note: Note) -> list[str]:
    """Names of the class folders, sorted."""
    words = "a folder with one folder of images per class"
    if not os.path.lexists(root) and root:
        raise InputError(f"{key} = {shown(root)} does not exist; give {words}")
    require(os.path.isdir(root), key, root, words)
    with os.scandir(root) as entries:
        # False for a link to itself
        names = sorted(entry.name for entry in entries if os.path.isdir(entry.path))
    folders = [name for name in names if not is_junk(name)]
    junk = [name for name in names if is_junk(name) and not name.startswith(".")]
    if junk:
        note(f"{root}: {some_of(junk)} is skipped, since it holds no class")
    if not folders:
        raise InputError(
            f"{key} = {root!r} has no class folders; put the images into {root}/CLASS/"
        )
    return folders


def _tell(root: str, folders: list[str], counts: np.ndarray, listing: Listing, note: Note) -> None:
    """Tells what is left out, and what is read though it lies deeper."""
    for name, count in zip(folders, counts, strict=True):
        if not count:
            note(f"class {name!r} is left out, since {os.path.join(root, name)} has no image")
    if deep := listing.nested:
        one = f"1 image lies deeper in its class folder, {deep[0]}, and is read too"
        many = f"{len(deep):,} images lie deeper in their class folders, as {deep[0]} does, and "
        note(f"{root}: {one if len(deep) == 1 else many + 'are read too'}")
    if words := ignored_words(listing.ignored):
        note(f"{root}: {words}")
