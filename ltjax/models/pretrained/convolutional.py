"""How files name the layers of networks of convolutions and batch norms."""

import re
from collections.abc import Mapping
from functools import partial

import flax.linen as nn

from ltjax.models.pretrained.naming import (
    Naming,
    Path,
    Place,
    Shapes,
    identity,
    torch_head,
    transposed,
    transposed_shape,
)

# Names of a batch norm's and a convolution's arrays here and in PyTorch.
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_BLOCK = re.compile(r"stage(\d+)_block(\d+)")


def _naming(layers: Mapping[str, str], block: str, inside: Mapping[str, str], head: str) -> Naming:
    """A naming of PyTorch's modules.

    Args:
      layers: names of layers outside of blocks, by ours.
      block: name of a block, from its `stage` (from 1), its `block` in it (from 0), and its `index`
        among all blocks (from 0).
      inside: names of the layers of a block, by ours.
      head: name of the classifier.
    """

    def places(shapes: Shapes, backbone: nn.Module) -> dict[Path, Place]:
        blocks = sorted({_block(path[1]) for path in shapes if _BLOCK.fullmatch(path[1])})
        return {path: place(path, shape, blocks) for path, shape in shapes.items()}

    def place(path: Path, shape: tuple[int, ...], blocks: list[tuple[int, int]]) -> Place:
        leaf = _LEAVES[path[-1]]
        if _BLOCK.fullmatch(path[1]):
            stage, number = _block(path[1])
            index = blocks.index((stage, number))
            outer = block.format(stage=stage, block=number - 1, index=index)
            name = f"{outer}.{inside[path[2]]}.{leaf}"
        else:
            name = f"{layers[path[1]]}.{leaf}"
        if path[-1] == "kernel":
            return Place(name, transposed_shape(shape), transposed)
        return Place(name, shape, identity)

    heads = {f"{head}.weight", f"{head}.bias"}
    return Naming(places, torch_head(head), partial(_beside, heads=heads))


def _beside(name: str, heads: set[str]) -> bool:
    return name in heads or name.endswith(".num_batches_tracked")


def _block(name: str) -> tuple[int, int]:
    """Stage and block of a name.

    >>> _block("stage3_block12")
    (3, 12)
    """
    stage, block = name.removeprefix("stage").split("_block")
    return int(stage), int(block)


TORCHVISION = _naming(
    {"stem": "conv1", "stem_norm": "bn1"},
    "layer{stage}.{block}",
    {f"conv{i}": f"conv{i}" for i in (1, 2, 3)}
    | {f"norm{i}": f"bn{i}" for i in (1, 2, 3)}
    | {"shortcut": "downsample.0", "shortcut_norm": "downsample.1"},
    "fc",
)
EFFICIENTNET_PYTORCH = _naming(
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
