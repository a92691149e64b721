"""Arrays of `.npz` files, of which nothing is believed before it is checked.

A file says how large its arrays are before it gives their content. Sizes, types and compression
are compared with each other and with the memory of the machine before anything is allocated, and
nothing is unpickled.
"""

import contextlib
import io
import os
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from ltjax.data.files import open_regular
from ltjax.errors import InputError

# What numpy.savez and numpy.savez_compressed write.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# No content of an array shrinks to less than this part of its size by that compression.
_MOST_SHRINKING = 1040


class NpzError(ValueError):
    """The file cannot be read; the message is the reason only."""


class Header(NamedTuple):
    """What an array says of itself.

    Attributes:
      shape: of the array.
      fortran: whether it is stored in Fortran order.
      dtype: of its values.
      nbytes: size of its content.
    """

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    nbytes: int


class NpzFile:
    """An open `.npz` file; see `open_npz`.

    Attributes:
      headers: of the arrays, by name.
    """

    def __init__(self, archive: zipfile.ZipFile, names: tuple[str, ...] | None, size: int):
        self._archive = archive
        self._members = _members(archive, names, size)
        self.headers = {name: self._header(name) for name in self._members}

    def _header(self, name: str) -> Header:
        with self._archive.open(self._members[name]) as member:
            try:
                shape, fortran, dtype = _npy_header(member)
            except Exception as e:  # NumPy's parser raises errors of many kinds
                reason = " ".join(str(e).split())[:100]
                raise NpzError(f"the header of the array {name!r} cannot be read: {reason}") from e
            start = member.tell()
        if dtype.hasobject or not dtype.itemsize:
            text = dtype.hasobject and name.endswith(("labels", "names"))
            advice = f"; store text as {name}.astype(str)" if text else ""
            raise NpzError(f"the array {name!r} is of the type {dtype}, which is not read{advice}")
        nbytes = dtype.itemsize
        for side in shape:  # in Python's integers, which do not overflow
            nbytes *= side
        size = self._members[name].file_size
        if min(shape, default=0) < 0 or start + nbytes != size:
            raise NpzError(
                f"the array {name!r} is announced with {nbytes} bytes and has {size - start}"
            )
        return Header(shape, fortran, dtype, nbytes)

    @contextlib.contextmanager
    def stream(self, name: str) -> Iterator[IO[bytes]]:
        """The values of an array, to be read bit by bit.

        Args:
          name: of the array.

        Returns:
          A context manager of the stream.
        """
        with self._archive.open(self._members[name]) as member:
            _npy_header(member)
            yield member

    def read(self, name: str) -> np.ndarray:
        """Reads an array as a whole.

        Args:
          name: of the array.

        Returns:
          The array.
        """
        with self._archive.open(self._members[name]) as member, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array: np.ndarray = np.lib.format.read_array(member, allow_pickle=False)
            member.read(1)  # the end, where the checksum is compared
        return array

    def read_all(self) -> dict[str, np.ndarray]:
        """Reads all arrays, if they fit into half of the memory: splitting data copies them.

        Returns:
          The arrays by name.

        Raises:
          NpzError: they do not fit.
        """
        needed = sum(header.nbytes for header in self.headers.values())
        most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        if needed > most:
            raise NpzError(
                f"its arrays take {needed / 2**30:.1f} GiB, more than half of this machine's "
                f"memory, {most / 2**30:.1f} GiB"
            )
        return {name: self.read(name) for name in self.headers}


def _members(
    archive: zipfile.ZipFile, names: tuple[str, ...] | None, size: int
) -> dict[str, zipfile.ZipInfo]:
    """The members of a file of `size` bytes that hold the arrays of these names, or all."""
    found: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if names is not None and name not in names:
            continue
        if name in found:
            raise NpzError(f"it has two arrays {name!r}")
        if member.flag_bits & 1:
            raise NpzError(f"the array {name!r} is encrypted")
        if member.compress_type not in _METHODS:
            raise NpzError(
                f"the array {name!r} is compressed by a method that NumPy does not write"
            )
        if member.file_size > _MOST_SHRINKING * min(member.compress_size, size) + 1024:
            raise NpzError(f"the array {name!r} is announced larger than its content can be")
        found[name] = member
    return found


def _npy_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the error that follows an odd header says more
        version = np.lib.format.read_magic(member)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(member)
        return np.lib.format.read_array_header_2_0(member)


@contextlib.contextmanager
def open_npz(path: str | Path, names: tuple[str, ...]) -> Iterator[NpzFile]:
    """Opens an `.npz` file; whatever is wrong with it gives one kind of error.

    Args:
      path: of the file.
      names: of the arrays that may be read; others are left alone.

    Returns:
      A context manager of the open file, whose headers are read and checked.

    Raises:
      NpzError: it cannot be opened, or something cannot be read from it inside the context.
    """
    with _one_kind_of_error(), open_regular(path) as file, zipfile.ZipFile(file) as archive:
        yield NpzFile(archive, names, os.fstat(file.fileno()).st_size)


@contextlib.contextmanager
def _one_kind_of_error() -> Iterator[None]:
    try:
        yield
    except (NpzError, InputError):
        raise
    except MemoryError as e:
        raise NpzError("there is not enough memory") from e
    except Exception as e:  # parsers of damaged bytes raise errors of many kinds
        reason = getattr(e, "strerror", None) or str(e) or type(e).__name__
        raise NpzError(" ".join(reason.split())[:200]) from e


def read_arrays(path: str | Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Reads arrays of an `.npz` file.

    Args:
      path: of the file.
      names: of the arrays; others are left alone.

    Returns:
      Those of the arrays that the file has, by name.

    Raises:
      NpzError: it cannot be read, or its arrays do not fit into memory.
    """
    with open_npz(path, names) as npz:
        return npz.read_all()


def read_content(data: bytes) -> dict[str, np.ndarray]:
    """Reads all arrays of an `.npz` file that is in memory.

    Args:
      data: content of the file.

    Returns:
      The arrays by name.

    Raises:
      NpzError: see `read_arrays`.
    """
    with _one_kind_of_error(), zipfile.ZipFile(io.BytesIO(data)) as archive:
        return NpzFile(archive, None, len(data)).read_all()
