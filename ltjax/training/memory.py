"""A whole run on arrays in memory, by one call."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ltjax import config as configs
from ltjax.data.files import replacing
from ltjax.data.npz import NpzError, read_arrays
from ltjax.errors import InputError, one_line
from ltjax.training.progress import Watcher
from ltjax.training.run import RunOutcome, run

# What a run on somebody's images has other than the base configuration, which is the digits'. In a
# program that has used JAX before there is one host device, and no way to get more.
_SETTINGS = {
    "data.name": "npz",
    "data.profile": "as_is",
    "data.test_per_class": 5,
    "cpu_devices": 1,
}


def fit(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    test: tuple[np.ndarray, np.ndarray] | None = None,
    workdir: str | Path | None = None,
    watcher: Watcher | None = None,
    **keys: Any,
) -> RunOutcome:
    """Trains and evaluates on images in memory; the same call on the same folder resumes.

    The arrays are kept in the workdir, as `data.npz`, so that evaluation and resume find them.

    Args:
      images: uint8 `[N, H, W]` or `[N, H, W, C]`, or floats from 0 to 1.
      labels: class numbers or names, `[N]`.
      test: images and labels of the test part; None holds up to five images of each class out.
      workdir: folder of the run; None makes a temporary one, which the outcome names.
      watcher: shows progress; by default a bar on a terminal and lines elsewhere.
      **keys: configuration keys, with two underscores for the dot: `train__epochs=20`.

    Returns:
      The folder and the content of `result.json`, as `ltjax.run` gives them.

    Raises:
      InputError: an unknown key, a value that is not allowed, arrays that do not go together, or a
        folder with other images.

    Source: ours.
    """
    config = configs.default()
    given = {name.replace("__", "."): value for name, value in keys.items()}
    for path, value in {**_SETTINGS, **given}.items():
        if path not in configs.SCHEMA:
            name = one_line(path, most=100)
            raise InputError(f"{name} is not a key; {configs.suggestion(name)}")
        configs.put(config, path, value)
    folder = Path(tempfile.mkdtemp(prefix="ltjax-") if workdir is None else workdir)
    arrays = {"images": images, "labels": labels}
    if test is not None:
        arrays |= {"test_images": test[0], "test_labels": test[1]}
    place = folder / "data.npz"
    config.data.path = str(place)
    written = _keep(place, {name: np.asarray(array) for name, array in arrays.items()})
    try:
        return run(config, folder, watcher=watcher)
    except InputError:
        if written and not (folder / "config.json").exists():  # no run began here
            place.unlink()
        raise


def _keep(path: Path, arrays: dict[str, np.ndarray]) -> bool:
    """Writes the arrays, or finds that they are there; whether they are new."""
    try:
        if path.exists():
            if not _equal(read_arrays(path, tuple(arrays)), arrays):
                raise InputError(f"{path} holds other images or labels; use another workdir")
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            np.savez(file, allow_pickle=False, **arrays)
        return True
    except (NpzError, OSError, ValueError) as e:
        if isinstance(e, InputError):
            raise
        raise InputError(
            f"the images cannot be kept in {path} ({one_line(e, most=200)}); give arrays of "
            "numbers, names as labels.astype(str), and a workdir that can be written"
        ) from e


def _equal(found: dict[str, np.ndarray], arrays: dict[str, np.ndarray]) -> bool:
    return found.keys() == arrays.keys() and all(
        np.array_equal(found[name], array) for name, array in arrays.items()
    )
