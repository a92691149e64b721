"""Who may write a workdir in an object store: an object there that its holder renews."""

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ltjax.data.remote import reaching
from ltjax.errors import InputError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# A holder that is silent for so long is gone.
LEASE_SECONDS = 90.0
# Of the workdirs that this process holds.
_tokens: set[str] = set()


class Lease:
    """The right to write a workdir, since stores have no locks that end with a process.

    Args:
      url: of the workdir, for messages.
      store: where it is.
      path: of the object.
    """

    def __init__(self, url: str, store: "AbstractFileSystem", path: str):
        self._url, self._store, self._path = url, store, path
        self._token, self._lost = secrets.token_hex(8), False

    def check(self) -> None:
        """Refuses to write what another process has taken over.

        Raises:
          InputError: it has.
        """
        if self._lost:
            raise InputError(
                f"workdir {self._url} was taken over by another process, since this one was "
                f"silent for {LEASE_SECONDS:.0f} seconds; let that one go on, or stop it first"
            )

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Holds the workdir by an object that is renewed, since stores have no locks.

        Creating it is one request, which fails where it is there already. What a killed process
        left is taken over: at once on the same machine, else when it has not been renewed for
        `LEASE_SECONDS`.

        Raises:
          InputError: another process holds it.
        """
        with reaching(self._url, "written"):
            self._acquire()
        _tokens.add(self._token)
        try:
            yield
        finally:
            _tokens.discard(self._token)
            with contextlib.suppress(Exception):
                if self._holder().get("token") == self._token:
                    self._store.rm_file(self._path)

    def _acquire(self) -> None:
        if not (first := self._holder()):
            try:
                return self._write_lock(mode="create")
            except FileExistsError:
                first = self._holder()
        began = time.monotonic()
        while not _is_gone(first) and time.monotonic() < began + LEASE_SECONDS:
            time.sleep(LEASE_SECONDS / 30)
            if (now := self._holder()) and now != first:
                raise InputError(
                    f"workdir {self._url} is in use by process {now.get('process')} of "
                    f"{now.get('host')}; wait for it, stop it, or use another --workdir"
                )
            if not now:
                break
        self._write_lock()
        time.sleep(min(1.0, LEASE_SECONDS / 30))  # of two that take it over, the last one has it
        if self._holder().get("token") != self._token:
            raise InputError(
                f"workdir {self._url} is in use by another process that started at the same time; "
                "use another --workdir"
            )

    def _write_lock(self, **options: Any) -> None:
        about = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "token": self._token,
            "renewed": time.time(),
        }
        self._store.pipe_file(self._path, json.dumps(about).encode(), **options)

    def renew(self) -> None:
        """Says that the holder is there; finds out whether another has taken its place."""
        with reaching(self._url, "written"):
            holder = self._holder()
            if holder and holder.get("token") != self._token:
                self._lost = True
            else:
                self._write_lock()

    def _holder(self) -> dict[str, Any]:
        """Who holds the workdir; nothing where nobody does."""
        try:
            found = json.loads(self._store.cat_file(self._path))
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _is_gone(holder: dict[str, Any]) -> bool:
    """Whether a holder was a process of this machine that has ended."""
    if not holder:
        return True
    if holder.get("host") != socket.gethostname():
        return False
    process = holder.get("process")
    if process == os.getpid():  # or of a container that has started again
        return holder.get("token") not in _tokens
    try:
        os.kill(int(process), 0)  # type: ignore[arg-type]
    except ProcessLookupError:
        return True
    except (OSError, TypeError, ValueError):
        return False
    return False
