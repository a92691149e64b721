"""Small arrays beside the data, so that a second start does not scan it again."""

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np
import platformdirs

from ltjax.data.files import replacing
from ltjax.data.npz import NpzError, open_npz

# Name of the hash of the arrays, beside them.
_DIGEST = "sha256"


class Cache:
    """One set of arrays, keyed by the content that it was made from.

    It lies in the data's own folder, or in the user's cache folder where that cannot be
    written; with the environment variable LTJAX_CACHE_DIR in that folder alone. A cache that
    cannot be written or read, or whose content is not what was stored, is as good as none.

    Args:
      folder: of the data.
      name: kind of the arrays.
      key: what they depend on; another key is another file.
      arrays: names that they may have.
    """

    def __init__(self, folder: Path, name: str, key: str, arrays: tuple[str, ...]):
        self._arrays = arrays
        digest = hashlib.sha256(f"{folder.resolve()}\n{key}".encode("utf-8", "surrogateescape"))
        file = f".ltjax-{name}-{digest.hexdigest()[:12]}.npz"
        only = os.environ.get("LTJAX_CACHE_DIR")
        home = platformdirs.user_cache_path("ltjax")
        self._places = (Path(only) / file,) if only else (folder / file, home / file)

    def load(self) -> dict[str, np.ndarray] | None:
        """Reads the arrays.

        Returns:
          The arrays by name, as `store` got them; None where there is no cache that can be read.
        """
        for place in self._places:
            try:
                with open_npz(place, (*self._arrays, _DIGEST)) as npz:
                    found = npz.read_all()
            except NpzError:
                continue
            if _is(found.pop(_DIGEST, None), _digest(found)):
                return found
        return None

    def store(self, arrays: dict[str, np.ndarray]) -> None:
        """Keeps the arrays, in one step, so that no other process reads half of them.

        Args:
          arrays: by name.
        """
        for place in self._places:
            with contextlib.suppress(OSError):
                place.parent.mkdir(parents=True, exist_ok=True)
                with replacing(place) as file:
                    np.savez(file, **arrays, **{_DIGEST: _digest(arrays)})  # type: ignore[arg-type]
                return


def _digest(arrays: dict[str, np.ndarray]) -> np.ndarray:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return np.frombuffer(digest.digest(), np.uint8)


def _is(found: np.ndarray | None, digest: np.ndarray) -> bool:
    return found is not None and np.array_equal(found, digest)
