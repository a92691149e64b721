"""A file of results that takes its place when it is complete, and never that of the input."""

import contextlib
import io
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, BinaryIO

from ltjax.data.files import replacing
from ltjax.errors import InputError, one_line


def check_differs(output: Path, inputs: Iterable[Path]) -> None:
    """Checks that an output is none of the inputs, also through links.

    Args:
      output: file to be written.
      inputs: files to be read.

    Raises:
      InputError: it is one of them.
    """
    try:
        own = os.stat(output)
    except OSError:  # there is no such file yet
        return
    for path in inputs:
        with contextlib.suppress(OSError):
            if os.path.samestat(own, os.stat(path)):
                raise InputError(
                    f"--output {one_line(output)} is the same file as the input {one_line(path)}; "
                    "give another"
                )


@contextlib.contextmanager
def replaced_whole(output: Path) -> Iterator[BinaryIO]:
    """Opens a file beside an output, which it replaces if the context ends without an error.

    A link stays, and the file that it leads to is replaced.

    Args:
      output: file to be written.

    Returns:
      A context manager of the open file.

    Raises:
      InputError: it cannot be written.
    """
    place = Path(os.path.realpath(output))
    try:
        if place.exists() and not place.is_file():
            raise InputError(f"--output {one_line(output)} is no regular file; give another")
        with replacing(place) as raw:
            if place.exists():
                shutil.copymode(place, raw.name)
            yield raw
            raw.flush()
            os.fsync(raw.fileno())
    except OSError as e:
        raise InputError(
            f"--output {one_line(output)} cannot be written ({e.strerror}); give another"
        ) from e


@contextlib.contextmanager
def written_whole(output: Path) -> Iterator[IO[str]]:
    """Opens an output as `replaced_whole` does, for text.

    Args:
      output: file to be written.

    Returns:
      A context manager of the open file.

    Raises:
      InputError: it cannot be written.
    """
    with replaced_whole(output) as raw:
        file = io.TextIOWrapper(raw, "utf-8", newline="")
        yield file
        file.detach()  # flushes, and leaves the file open
