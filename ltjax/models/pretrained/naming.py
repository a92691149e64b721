"""How files name the layers of networks, and lay out their numbers."""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import flax.linen as nn
import numpy as np

# Of a variable, as in `("params", "stem", "kernel")`.
Path = tuple[str, ...]
Shapes = Mapping[Path, tuple[int, ...]]
Tensors = Mapping[str, np.ndarray]


class Place(NamedTuple):
    """Where a file has a variable.

    Attributes:
      name: of its tensor there.
      shape: of the tensor.
      ours: function from the tensor to the variable.
    """

    name: str
    shape: tuple[int, ...]
    ours: Callable[[np.ndarray], np.ndarray]


def _as_is(tensors: Tensors, shapes: Shapes) -> Tensors:
    return tensors


class Naming(NamedTuple):
    """How a kind of files names the tensors of a kind of networks.

    Attributes:
      places: function from the shapes of a backbone's variables and the backbone to where they are.
      head: function from the tensors to the backbone's own classifier: `kernel` `[D, C]` and
        `bias` `[C]`, as far as it is there.
      beside: names of tensors that belong to no backbone and are left out.
      prepared: function from the tensors of a file and the shapes of the variables to the tensors
        that `places` speaks of.
    """

    places: Callable[[Shapes, nn.Module], Mapping[Path, Place]]
    head: Callable[[Tensors], dict[str, np.ndarray]]
    beside: Callable[[str], bool]
    prepared: Callable[[Tensors, Shapes], Tensors] = _as_is


def identity(array: np.ndarray) -> np.ndarray:
    """An array as it is."""
    return array


def transposed(array: np.ndarray) -> np.ndarray:
    """A kernel of PyTorch in the layout of Flax.

    Args:
      array: `[O, I]` of a dense layer, `[O, I, h, w]` of a convolution.

    Returns:
      `[I, O]` or `[h, w, I, O]`.

    >>> transposed(np.zeros((8, 3, 5, 7))).shape
    (5, 7, 3, 8)
    """
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def transposed_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a kernel in PyTorch.

    >>> transposed_shape((3, 5, 16, 32)), transposed_shape((16, 32))
    ((32, 16, 3, 5), (32, 16))
    """
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]


def torch_head(name: str) -> Callable[[Tensors], dict[str, np.ndarray]]:
    """The classifier of PyTorch's networks.

    Args:
      name: of the layer.

    Returns:
      See `Naming.head`.
    """

    def head(tensors: Tensors) -> dict[str, np.ndarray]:
        found = {"kernel": tensors.get(f"{name}.weight"), "bias": tensors.get(f"{name}.bias")}
        there = {key: array for key, array in found.items() if array is not None}
        return {key: array.T if key == "kernel" else array for key, array in there.items()}

    return head


def without_prefix(tensors: Tensors, prefixes: Collection[str]) -> Tensors:
    """The part of a file whose names begin with one of some prefixes, without it.

    Args:
      tensors: of the file.
      prefixes: the first that a name begins with counts.

    Returns:
      The tensors; all of them where no name begins so.

    >>> sorted(without_prefix({"a.x": np.zeros(1), "y": np.zeros(1)}, ["b.", "a."]))
    ['x']
    """
    for prefix in prefixes:
        found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if found:
            return found
    return tensors
