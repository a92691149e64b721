"""Small arrays beside the data, so that a second start does not scan it again."""

import contextlib
import hashlib
import os
import zipfile
from pathlib import Path

import numpy as np
import platformdirs


class Cache:
    """One set of arrays, keyed by the content that it was made from.

    It lies in the data's own folder, or in the user's cache folder where that cannot be
    written; with the environment variable LTJAX_CACHE_DIR in that folder alone. A cache that
    cannot be written or read is as good as none.

    Args:
      folder: of the data.
      name: kind of the arrays.
      key: what they depend on; another key is another file.
    """

    def __init__(self, folder: Path, name: str, key: str):
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
                with open(place, "rb") as file, np.load(file, allow_pickle=False) as data:
                    return {key: data[key] for key in data.files}
            except (OSError, ValueError, EOFError, zipfile.BadZipFile):
                continue
        return None

    def store(self, arrays: dict[str, np.ndarray]) -> None:
        """Keeps the arrays, in one step, so that no other process reads half of them.

        Args:
          arrays: by name.
        """
        for place in self._places:
            with contextlib.suppress(OSError):
                place.parent.mkdir(parents=True, exist_ok=True)
                temporary = place.with_suffix(f".{os.getpid()}.tmp")
                with open(temporary, "wb") as file:
                    np.savez(file, **arrays)  # type: ignore[arg-type]
                temporary.replace(place)
                return
