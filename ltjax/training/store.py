"""Workdirs in object stores: a run works in a folder of this machine, which is kept in the store.

Stores have no appending, no renaming of folders and no locks of the kernel, so nothing of a run is
changed for them. Its folder is copied from the store before it starts and to it while it goes on:

    new and changed files, checkpoints that are complete alone -> manifest.json -> removals

The manifest names the files that belong together and is replaced by one request, so that whoever
reads finds all of it or none, at whatever request the writer was killed.
"""

import contextlib
import json
import os
import secrets
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import jax

from ltjax.data.remote import (
    checked_name,
    download,
    is_remote,
    open_store,
    reaching,
    temporary_folder,
)
from ltjax.errors import InputError, Interrupted, one_line
from ltjax.training.lease import Lease

MANIFEST = "manifest.json"
# Between two copies to the store; a run that is killed loses at most so much, besides the steps
# since its last checkpoint.
EVERY_SECONDS = 15.0
# The folder of files that never change.
CHECKPOINTS = "checkpoints"

# Folders of this process by URL, so that one is copied once.
_folders: dict[str, Path] = {}


@contextlib.contextmanager
def kept(workdir: str | Path) -> Iterator[Path]:
    """Context of a workdir that may be in a store; a folder of this machine stays as it is.

    The files of the store are copied here first; what is written here is copied there, at the end
    too, however it ends.

    Args:
      workdir: a folder, or a URL such as `gs://bucket/run`.

    Returns:
      A context manager of the folder to work in.

    Raises:
      InputError: the store cannot be read or written, another process holds the workdir, or there
        are several hosts, whose checkpoints need a shared disk.

    Source: ours.
    """
    if not is_remote(workdir):
        yield Path(workdir)
        return
    url = str(workdir)
    if jax.process_count() > 1:
        raise InputError(
            f"--workdir {url} is not allowed with --distributed: the hosts write checkpoints "
            "together; give a folder of a shared disk, such as one that gcsfuse mounts"
        )
    store = Store(url)
    with store.lease.held():
        store.pull()
        with store.pushing():
            yield store.folder


def fetched(workdir: str | Path) -> Path:
    """The folder of a workdir for reading.

    Args:
      workdir: a folder, or a URL; what is there is copied once in a process.

    Returns:
      The folder, or that of the copy.

    Raises:
      InputError: the store cannot be read.
    """
    if not is_remote(workdir):
        return Path(workdir)
    url = str(workdir)
    if url not in _folders:
        Store(url).pull()
    return _folders[url]


class Store:
    """The files of one workdir in a store.

    Args:
      url: such as `gs://bucket/run`.

    Attributes:
      folder: of this machine, with the same files.
      lease: of the one process that may write.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        self._store, self._root = open_store(self.url)
        self.folder = _folders.get(url) or temporary_folder() / secrets.token_hex(4) / _name(url)
        _folders[url] = self.folder
        self._there: set[str] = set()  # files that the manifest names
        self._sent: dict[str, tuple[int, int]] = {}  # size and time of change of files here
        self._turn = threading.Lock()
        self.lease = Lease(self.url, self._store, self._at(".lock"))

    def pull(self) -> None:
        """Copies the files that the manifest names from the store."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with reaching(self.url, "read"):
            self._there = self._manifest()
            download(self._store, {self.folder / name: self._at(name) for name in self._there})
        for name in self._there:
            found = os.stat(self.folder / name)
            self._sent[name] = (found.st_size, found.st_mtime_ns)

    def _manifest(self) -> set[str]:
        """Names of the files, checked; none where there is no workdir yet."""
        try:
            content = json.loads(self._store.cat_file(self._at(MANIFEST)))
        except FileNotFoundError:
            return set()
        except ValueError:
            content = None
        files = content.get("files") if isinstance(content, dict) else None
        if not isinstance(files, list) or not all(isinstance(name, str) for name in files):
            raise InputError(f"{self.url}/{MANIFEST} is damaged; use another --workdir")
        return {checked_name(name) for name in files}

    def push(self) -> None:
        """Copies what is new to the store, as the first lines of this file say."""
        with self._turn, reaching(self.url, "written"):
            self.lease.check()
            found = self._present()
            for name, about in list(found.items()):
                if name not in found or self._sent.get(name) == about:
                    continue
                if self._send(name):
                    self._sent[name] = about
                else:
                    _drop(found, name)
            names = set(found)
            # Also of a checkpoint that was removed here while it was copied.
            gone = (self._there | self._sent.keys()) - names
            if names != self._there:
                content = json.dumps({"files": sorted(names)}, indent=2)
                self._store.pipe_file(self._at(MANIFEST), content.encode())
                self._there = names
            for name in gone:
                self._remove(name)

    def _present(self) -> dict[str, tuple[int, int]]:
        """Size and time of change of the files of the run, checkpoints that are complete alone."""
        found = {}
        for inside, folders, names in os.walk(self.folder):
            above = Path(inside).relative_to(self.folder)
            if above.as_posix() == CHECKPOINTS:
                folders[:] = [name for name in folders if name.isdigit()]
            for name in names:
                if name.startswith(".") and not above.parts:
                    continue  # of a file that is being written, or the lock
                with contextlib.suppress(FileNotFoundError):
                    about = os.lstat(Path(inside) / name)
                    if stat.S_ISREG(about.st_mode):
                        found[(above / name).as_posix()] = (about.st_size, about.st_mtime_ns)
        return found

    def _send(self, name: str) -> bool:
        """Copies a file to the store; False where it is no longer here."""
        try:
            if _step_of(name):
                self._store.put_file(str(self.folder / name), self._at(name))
            else:  # may grow meanwhile, so it is read first
                self._store.pipe_file(self._at(name), (self.folder / name).read_bytes())
        except FileNotFoundError:
            if (self.folder / name).exists():
                raise
            return False
        return True

    def _remove(self, name: str) -> None:
        self._sent.pop(name, None)
        with contextlib.suppress(FileNotFoundError):
            self._store.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextlib.contextmanager
    def pushing(self) -> Iterator[None]:
        """Copies to the store every few seconds, and at the end."""
        ended, told = threading.Event(), threading.Event()

        def often() -> None:
            while not ended.wait(EVERY_SECONDS):
                try:
                    self.lease.renew()
                    self.push()
                except InputError as e:  # it is tried again, and at the end it is an error
                    if not told.is_set():
                        print(f"ltjax: {one_line(e, most=500)}; going on", file=sys.stderr)
                    told.set()

        with reaching(self.url, "written"):
            self._sweep()
        thread = threading.Thread(target=often, name="ltjax-store", daemon=True)
        thread.start()
        failed = False
        try:
            yield
        except Interrupted:
            raise
        except BaseException:
            failed = True
            raise
        finally:
            ended.set()
            thread.join()
            # What went wrong before is what the user is told.
            with contextlib.suppress(InputError) if failed else contextlib.nullcontext():
                self.push()

    def _sweep(self) -> None:
        """Removes files of checkpoints that a killed process has left and no manifest names."""
        for path in self._store.find(self._at(CHECKPOINTS)):
            name = str(path).strip("/")[len(self._root.strip("/")) + 1 :]
            if name not in self._there:
                self._remove(checked_name(name))


def _name(url: str) -> str:
    return url.rstrip("/").rpartition("/")[2] or "run"


def _step_of(name: str) -> str | None:
    """The folder of the checkpoint that a file belongs to."""
    parts = name.split("/")
    inside = len(parts) > 2 and parts[0] == CHECKPOINTS
    return "/".join(parts[:2]) if inside else None


def _drop(found: dict[str, tuple[int, int]], name: str) -> None:
    """Takes a file that has vanished off the list, with the checkpoint that it was of."""
    step = _step_of(name)
    for other in [n for n in found if n == name or (step and _step_of(n) == step)]:
        del found[other]
