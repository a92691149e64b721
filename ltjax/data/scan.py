"""Lists the images of class folders, to the bottom, and what else lies there."""

import os
from collections import Counter
from pathlib import Path

import numpy as np

from ltjax.data.cache import Cache

# Endings of the files that are taken for images; OpenCV reads all of these formats.
SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".gif", ".avif"),
)
# Folders that systems and archivers leave behind; like hidden ones they hold no images of a class.
JUNK = frozenset(
    ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "__pycache__")
)

# Arrays of a listing.
_PATHS, _LABELS, _FOLDERS, _TIMES = "paths", "labels", "folders", "times"
_ENDINGS, _IGNORED = "endings", "ignored"


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image.

    Args:
      name: of the file.

    Returns:
      True for one of `SUFFIXES`, unless the file is hidden.

    >>> is_image("a.PPM"), is_image("a.txt"), is_image("._a.jpg")
    (True, False, False)
    """
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def is_junk(name: str) -> bool:
    """Whether a folder holds no images of anybody: hidden ones, and those of `JUNK`.

    Args:
      name: of the folder.

    Returns:
      True or False.
    """
    return name.startswith(".") or name.lower() in JUNK


def ignored_words(endings: Counter[str]) -> str:
    """Words about files that are not taken for images.

    Args:
      endings: how many there are of each ending.

    Returns:
      Their number and their endings; empty where there are none.

    >>> ignored_words(Counter({".txt": 2, "": 1}))
    '3 files are no images and are ignored: 2 .txt, 1 without an ending'
    """
    if not endings:
        return ""
    kinds = [f"{count} {ending or 'without an ending'}" for ending, count in endings.most_common(5)]
    more = f" and {len(endings) - 5} other endings" if len(endings) > 5 else ""
    total = endings.total()
    noun = "file is no image and is" if total == 1 else "files are no images and are"
    return f"{total:,} {noun} ignored: {', '.join(kinds)}{more}"


class Listing:
    """The images of class folders.

    Attributes:
      paths: of the images, relative to the root, class by class, each class sorted.
      labels: int64 `[N]`, place of the class folder among those that were asked for.
      nested: how many images lie deeper than directly in their class folder.
      ignored: number of other files, by ending.
    """

    def __init__(self, arrays: dict[str, np.ndarray]):
        self.paths = tuple(os.fsdecode(path) for path in arrays[_PATHS].tolist())
        self.labels: np.ndarray = arrays[_LABELS]
        self.nested = [path for path in self.paths if path.count(os.sep) > 1]
        endings = (os.fsdecode(ending) for ending in arrays[_ENDINGS].tolist())
        self.ignored = Counter(dict(zip(endings, arrays[_IGNORED].tolist(), strict=True)))


def list_images(root: str, classes: list[str]) -> Listing:
    """Lists the images in class folders and in the folders below them.

    The listing is kept in a cache. It is used again where no folder has changed, so that the next
    start looks at the folders alone, not at their files.

    Args:
      root: folder of the class folders.
      classes: names of the class folders.

    Returns:
      The listing.
    """
    names = (_PATHS, _LABELS, _FOLDERS, _TIMES, _ENDINGS, _IGNORED)
    cache = Cache(Path(root), "folder", repr(classes), names)
    known = cache.load()
    if known is not None and _unchanged(root, known):
        return Listing(known)
    found = _scan(root, classes)
    cache.store(found)
    return Listing(found)


def _unchanged(root: str, known: dict[str, np.ndarray]) -> bool:
    """Whether every folder is there and as old as when it was listed."""
    for folder, time in zip(known[_FOLDERS].tolist(), known[_TIMES].tolist(), strict=True):
        try:
            if os.stat(os.path.join(os.fsencode(root), folder)).st_mtime_ns != time:
                return False
        except OSError:
            return False
    return True


def _scan(root: str, classes: list[str]) -> dict[str, np.ndarray]:
    """The arrays of a listing."""
    paths: list[bytes] = []
    labels: list[int] = []
    folders: list[bytes] = []
    times: list[int] = []
    ignored: Counter[str] = Counter()
    for label, name in enumerate(classes):
        files: list[str] = []
        waiting, seen = [name], set()
        while waiting:
            folder = waiting.pop()
            status = os.stat(os.path.join(root, folder))
            if (place := (status.st_dev, status.st_ino)) in seen:  # by a link
                continue
            seen.add(place)
            folders.append(os.fsencode(folder))
            times.append(status.st_mtime_ns)
            with os.scandir(os.path.join(root, folder)) as entries:
                for entry in entries:
                    path = os.path.join(folder, entry.name)
                    if os.path.isdir(entry.path):  # False for a link to itself
                        waiting += [] if is_junk(entry.name) else [path]
                    elif is_image(entry.name):
                        files.append(path)
                    elif not entry.name.startswith("."):
                        ignored[os.path.splitext(entry.name)[1].lower()] += 1
        paths += [os.fsencode(path) for path in sorted(files)]
        labels += [label] * len(files)
    return {
        _PATHS: np.array(paths, dtype="S"),
        _LABELS: np.array(labels, np.int64),
        _FOLDERS: np.array(folders, dtype="S"),
        _TIMES: np.array(times, np.int64),
        _ENDINGS: np.array([os.fsencode(ending) for ending in ignored], dtype="S"),
        _IGNORED: np.array(list(ignored.values()), np.int64),
    }
