"""Files of users: opened if they are regular and of a limited size, replaced as a whole."""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# What a path may lead to that is no regular file. Reading a FIFO or a socket waits for ever, and a
# device such as /dev/zero has no end.
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def open_regular(path: str | Path, *, most: int | None = None) -> BinaryIO:
    """Opens a file for reading, without waiting, if it is a regular file of an allowed size.

    Args:
      path: of the file; links are followed.
      most: largest size in bytes; None allows any.

    Returns:
      The open file.

    Raises:
      OSError: there is no such file, it cannot be read, it is a folder, a FIFO, a device or a
        socket, or it is too large; `strerror` is the reason in words.
    """
    _check(os.stat(path), path, most)  # first, since opening a device may have effects
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    file = os.fdopen(descriptor, "rb")
    try:
        found = os.fstat(descriptor)
        _check(found, path, most)  # again, since the path may lead elsewhere by now
    except OSError:
        file.close()
        raise
    if not found.st_size:  # files of /proc say so too, and reading some of them waits
        file.close()
        return open(os.devnull, "rb")
    return file


def _check(found: os.stat_result, path: str | Path, most: int | None) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for test, name in _KINDS if test(found.st_mode)), "no file")
        raise OSError(errno.EINVAL, f"it is {kind}; only regular files are read", str(path))
    if most is not None and found.st_size > most:
        raise OSError(
            errno.EFBIG, f"it has {found.st_size} bytes, more than the {most} allowed", str(path)
        )


def read_regular(path: str | Path, *, most: int) -> bytes:
    """Reads a regular file as a whole.

    Args:
      path: of the file; links are followed.
      most: largest size in bytes.

    Returns:
      Its content.

    Raises:
      OSError: see `open_regular`.
    """
    with open_regular(path, most=most) as file:
        return file.read()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a file beside another, which it replaces if the context ends without an error.

    It has a name that nobody can guess, and is gone if the writing fails.

    Args:
      path: of the file to replace, which need not exist.

    Returns:
      A context manager of the file, open for writing.

    Raises:
      OSError: it cannot be written; what was there before is as it was.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
