"""Files in object stores, such as gs:// and s3://: what is read there is copied here first.

No reader of images or of JSON knows of stores; it gets a file or a folder on this machine.
"""

import contextlib
import functools
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ltjax.data.cache import cache_home
from ltjax.errors import InputError, MissingExtraError, one_line

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# Files that are copied by one call of the store's library, which copies them side by side.
_TOGETHER = 128


def is_remote(path: str | Path) -> bool:
    """Whether a path is that of an object store.

    >>> is_remote("gs://bucket/run"), is_remote("runs/a"), is_remote(Path("/data"))
    (True, False, False)
    """
    return isinstance(path, str) and _URL.match(path) is not None


def open_store(url: str) -> tuple["AbstractFileSystem", str]:
    """The store of a URL, and the path there.

    Args:
      url: such as `gs://bucket/run`.

    Returns:
      A file system of fsspec, which remembers no listing, and the path without a last slash.

    Raises:
      MissingExtraError: the store's library is not installed.
      InputError: no such kind of store, or no path in it.
    """
    import fsspec

    shown = one_line(url, most=200)
    try:
        store, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as e:
        raise MissingExtraError(
            f"{shown} needs a library that is not installed ({one_line(e, most=100)}); run: pip "
            "install 'ltjax[cloud]'"
        ) from e
    except Exception as e:  # of options and credentials, of many kinds
        raise InputError(
            f"{shown} cannot be used ({one_line(e, most=200)}); use gs://BUCKET/PATH, "
            "s3://BUCKET/PATH or a folder"
        ) from e
    if not url.partition("://")[2].strip("/"):
        raise InputError(f"{shown} names no folder; use gs://BUCKET/PATH or s3://BUCKET/PATH")
    return store, str(path).rstrip("/")


@contextlib.contextmanager
def reaching(url: str, doing: str) -> Iterator[None]:
    """Turns any failure of a store into one line.

    Args:
      url: what was asked for.
      doing: "read" or "written".

    Returns:
      A context manager.

    Raises:
      InputError: anything went wrong.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as e:  # libraries of stores raise errors of many kinds
        raise InputError(
            f"{one_line(url, most=200)} cannot be {doing} ({type(e).__name__}: "
            f"{one_line(e, most=200)}); check the name, the credentials and the network"
        ) from e


def checked_name(name: str) -> str:
    """A name of a file below a folder, as a store gave it.

    Raises:
      InputError: it would lead out of the folder.

    >>> checked_name("a/b.json")
    'a/b.json'
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise InputError(f"the store has a file named {one_line(name, most=200)!r}; rename it")
    return name


def copied_here(url: str) -> str:
    """Copies a file or a folder of a store into the user's cache folder, what has changed alone.

    Args:
      url: of the file or the folder; a path of this machine stays as it is.

    Returns:
      Path of the copy, which has the same name.

    Raises:
      InputError: it is not there, or cannot be read.

    Source: ours.
    """
    if not is_remote(url):
        return url
    store, root = open_store(url)
    with reaching(url, "read"):
        found = _listed(store, root)
        if not found:
            raise FileNotFoundError("there is no such file or folder")
        above, name = str(PurePosixPath(root).parent), PurePosixPath(root).name
        kind = url.partition("://")[0].lower()
        digest = hashlib.sha256(f"{kind}://{above}".encode()).hexdigest()[:16]
        place = cache_home() / "remote" / digest / checked_name(name)
        single = list(found) == [""]
        folder = place.parent if single else place
        folder.mkdir(parents=True, exist_ok=True)
        files = {place.name if single else n: (n, t) for n, t in found.items()}
        _copy(store, root, folder, files, place.with_name(f".{place.name}.index"))
    return str(place)


def _listed(store: "AbstractFileSystem", root: str) -> dict[str, str]:
    """What changes with the content of each file below a path, by its name there."""
    found: dict[str, Any] = store.find(root, detail=True)
    start = len(root.strip("/")) + 1
    return {
        name.strip("/")[start:] and checked_name(name.strip("/")[start:]): _token(about)
        for name, about in found.items()
    }


def _token(about: Mapping[str, Any]) -> str:
    keys = ("size", "etag", "ETag", "md5Hash", "generation", "LastModified", "mtime", "created")
    return " ".join(str(about[key]) for key in keys if key in about)


def _copy(
    store: "AbstractFileSystem",
    root: str,
    folder: Path,
    files: Mapping[str, tuple[str, str]],
    index: Path,
) -> None:
    """Copies files that are not here yet as they are there; removes what is no longer there."""
    known: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError):
        known = dict(json.loads(index.read_text()))
    for name in known.keys() - files.keys():
        with contextlib.suppress(OSError):
            (folder / checked_name(name)).unlink()
    wanted = [n for n, (_, t) in files.items() if known.get(n) != t or not (folder / n).is_file()]
    known = {name: token for name, token in known.items() if name in files}
    for start in range(0, len(wanted), _TOGETHER):
        names = wanted[start : start + _TOGETHER]
        download(store, {folder / n: f"{root}/{files[n][0]}".rstrip("/") for n in names})
        known |= {name: files[name][1] for name in names}
        temporary = index.with_suffix(f".{secrets.token_hex(8)}")
        temporary.write_text(json.dumps(known))
        os.replace(temporary, index)


def download(store: "AbstractFileSystem", files: Mapping[Path, str]) -> None:
    """Copies files of a store side by side; each takes its place as a whole.

    Args:
      store: where they are.
      files: paths there, by their places here.
    """
    if not files:
        return
    parts = {place: place.with_name(f".{secrets.token_hex(8)}.part") for place in files}
    try:
        for place in files:
            place.parent.mkdir(parents=True, exist_ok=True)
        store.get(list(files.values()), [str(part) for part in parts.values()])
        for place, part in parts.items():
            os.replace(part, place)
    finally:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


@functools.cache
def temporary_folder() -> Path:
    """A folder of this process, which is gone when it ends."""
    import atexit
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="ltjax-store-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
