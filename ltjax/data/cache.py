"""Small arrays about a data set in the user's cache folder, so that no start scans it again."""

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np
import platformdirs

from ltjax.data.files import replacing
from ltjax.data.npz import NpzError, open_npz

# Name of the hash of the key and the arrays, beside them.
_DIGEST = "sha256"


def cache_home() -> Path:
    """The user's cache folder, or that of the environment variable LTJAX_CACHE_DIR."""
    return Path(os.environ.get("LTJAX_CACHE_DIR") or platformdirs.user_cache_path("ltjax") / "data")


class Cache:
    """One set of arrays about a folder, replaced when what it was made from changes.

    It is a file in the user's cache folder, or in the folder that the environment variable
    LTJAX_CACHE_DIR names; nothing is written among the data. A cache that cannot be written or
    read, or whose content is not what was stored, is as good as none.

    Args:
      folder: of the data.
      name: kind of the arrays; folder and name decide the file.
      key: what they depend on; with another key the arrays count as absent.
      arrays: names that they may have.
    """

    def __init__(self, folder: Path, name: str, key: str, arrays: tuple[str, ...]):
        self._arrays, self._key = arrays, key.encode("utf-8", "surrogateescape")
        place = hashlib.sha256(f"{folder.resolve()}\n{name}".encode("utf-8", "surrogateescape"))
        self._path = cache_home() / f"{name.split()[0]}-{place.hexdigest()[:16]}.npz"

    def load(self) -> dict[str, np.ndarray] | None:
        """Reads the arrays.

        Returns:
          The arrays by name, as `store` got them; None where there is no cache that can be read.
        """
        try:
            with open_npz(self._path, (*self._arrays, _DIGEST)) as npz:
                found = npz.read_all()
        except NpzError:
            return None
        digest = found.pop(_DIGEST, None)
        right = digest is not None and np.array_equal(digest, self._digest(found))
        return found if right else None

    def store(self, arrays: dict[str, np.ndarray]) -> None:
        """Keeps the arrays, in one step, so that no other process reads half of them.

        Args:
          arrays: by name.
        """
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._path) as file:
                np.savez(file, **arrays, **{_DIGEST: self._digest(arrays)})  # type: ignore[arg-type]

    def _digest(self, arrays: dict[str, np.ndarray]) -> np.ndarray:
        digest = hashlib.sha256(self._key)
        for name, array in sorted(arrays.items()):
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return np.frombuffer(digest.digest(), np.uint8)
