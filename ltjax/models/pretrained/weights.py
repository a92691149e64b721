"""Tensors of files as the variables of backbones."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ltjax.errors import InputError, one_line
from ltjax.models.pretrained.naming import Naming, Path, Place, Shapes, Tensors

# Side of images that every backbone takes: a multiple of 14 and of 16.
_SIDE = 112


class Weights(NamedTuple):
    """Variables of a pretrained network.

    Attributes:
      backbone: `params` and, where there are any, `batch_stats` of the backbone.
      head: `kernel` `[D, C]` and `bias` `[C]` of its own classifier, as far as the file has them;
        of CLIP the kernel is the projection to the space of images and texts.
    """

    backbone: dict[str, Any]
    head: dict[str, np.ndarray]


def weights_of(
    what: str, namings: Sequence[Naming], tensors: Tensors, backbone: nn.Module
) -> Weights:
    """Gives the tensors of a file the names and the layout of a backbone's variables.

    Args:
      what: what the tensors are, for messages.
      namings: how they may be named; the one by which most are known is taken.
      tensors: arrays by name.
      backbone: the module.

    Returns:
      float32 variables.

    Raises:
      InputError: tensors are missing, left over, of another shape or type, or not finite; the
        first of each kind are named.
    """
    shapes = shapes_of(backbone)
    naming, tensors, places = _fitting(namings, tensors, shapes, backbone)
    _check(what, naming, tensors, places)
    found = {
        path: np.ascontiguousarray(place.ours(_numbers(what, place.name, tensors[place.name])))
        for path, place in sorted(places.items(), key=lambda item: item[1].name)
    }
    head = {
        key: _numbers(what, f"the classifier's {key}", array)
        for key, array in naming.head(tensors).items()
    }
    return Weights(unflatten_dict(found), head)


def shapes_of(backbone: nn.Module) -> Shapes:
    """Shapes of a backbone's variables.

    Args:
      backbone: the module.

    Returns:
      Shapes by their paths, such as `("params", "norm", "scale")`.
    """
    image = jax.ShapeDtypeStruct((1, _SIDE, _SIDE, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: backbone.init(jax.random.key(0), x, train=False), image)
    return {path: leaf.shape for path, leaf in flatten_dict(variables).items()}


def _fitting(
    namings: Sequence[Naming], tensors: Tensors, shapes: Shapes, backbone: nn.Module
) -> tuple[Naming, Tensors, Mapping[Path, Place]]:
    """The naming by which most tensors are known, the tensors as it wants them, and its places."""
    candidates = [
        (naming, naming.prepared(tensors, shapes), naming.places(shapes, backbone))
        for naming in namings
    ]

    def known(candidate: tuple[Naming, Tensors, Mapping[Path, Place]]) -> int:
        _, prepared, places = candidate
        return sum(place.name in prepared for place in places.values())

    return max(candidates, key=known)


def _check(what: str, naming: Naming, tensors: Tensors, places: Mapping[Path, Place]) -> None:
    """Refuses tensors that do not fit."""
    expected = {place.name: place for place in places.values()}
    over = [name for name in tensors if name not in expected and not naming.beside(name)]
    kinds = {
        "missing": sorted(expected.keys() - tensors.keys()),
        "left over": sorted(map(_shown, over)),
        "of another shape": [
            f"{_shown(name)} {tensors[name].shape} instead of {expected[name].shape}"
            for name in sorted(expected.keys() & tensors.keys())
            if tensors[name].shape != expected[name].shape
        ],
    }
    wrong = [f"{kind}: {_first(list_)}" for kind, list_ in kinds.items() if list_]
    if wrong:
        raise InputError(f"{what} does not fit the backbone; {'; '.join(wrong)}")


def _numbers(what: str, name: str, array: np.ndarray) -> np.ndarray:
    """Finite float32 values."""
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(f"{what} has {array.dtype} numbers in {_shown(name)}; it must be floats")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{what} has numbers that are not finite in {_shown(name)}")
    return values


def _shown(name: str) -> str:
    return str(one_line(name, most=100))


def _first(names: list[str], most: int = 3) -> str:
    """The first names, and how many others there are.

    >>> _first(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
