"""Which parameters of a pretrained network learn, and how fast each layer does."""

import dataclasses
import re
from collections.abc import Collection
from typing import Any

from ltjax.errors import Allowed, InputError, number, option, require
from ltjax.models.adapters import ADAPTER_SCALE, ADAPTER_WIDTH, LORA, LORA_ALPHA, LORA_RANK

# Names that lead to a parameter.
Path = tuple[str, ...]

_LAST = re.compile(r"last_([1-9]\d{0,3})")
NAMED = ("all", "head", "norm_and_bias", "lora", "adapter")
TRAIN = Allowed(
    lambda v: isinstance(v, str) and (v in NAMED or _LAST.fullmatch(v) is not None),
    f"one of {', '.join(NAMED)}, or last_N, as last_1",
)
# Blocks of all backbones, in the order of their numbers.
_BLOCK = re.compile(r"stage(\d+)_block(\d+)|block(\d+)|(?:dense|norm)(\d+)")
# What comes before the first block; other layers outside of blocks come after the last one.
FIRST = ("stem", "stem_norm", "patches", "token", "positions", "registers", "pre_norm")
# What a batch norm, a layer norm, a LayerScale and any layer call their vectors.
_VECTORS = ("scale", "bias", "scale1", "scale2")


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """What of a pretrained network is trained: the section `finetune` of the keys."""

    train: str = option(
        "all",
        TRAIN,
        "parameters that learn; head: the classifier; last_N: the last N blocks and what follows "
        "them; norm_and_bias: those of normalization, and biases; lora and adapter: small layers "
        "beside frozen ones; the classifier always does",
    )
    layer_decay: float = option(
        1.0,
        number(0, 1, open_low=True),
        "factor of the learning rate from one block to the block before it",
    )
    lora_rank: int = LORA_RANK.field()
    lora_alpha: float = LORA_ALPHA.field()
    adapter_width: int = ADAPTER_WIDTH.field()
    adapter_scale: float = ADAPTER_SCALE.field()


def block_of(path: Path) -> tuple[int, ...] | None:
    """The block that a parameter of a backbone lies in.

    Args:
      path: names that lead to it, from "backbone" on.

    Returns:
      Numbers that sort as the blocks follow each other; None outside of blocks.

    >>> block_of(("backbone", "stage2_block10", "conv1", "kernel"))
    (2, 10)
    >>> block_of(("backbone", "stem", "kernel"))
    """
    match = _BLOCK.fullmatch(path[1]) if path[0] == "backbone" and len(path) > 1 else None
    return match and tuple(int(number) for number in match.groups() if number is not None)


def depths(paths: Collection[Path]) -> dict[Path, int]:
    """How deep in the network parameters lie.

    Args:
      paths: names that lead to the parameters of a whole network.

    Returns:
      0 before the first of `L` blocks, 1 to L in the blocks, and L + 1 after them, in the head too.

    Source: the layer numbers of BEiT (Bao et al., ICLR 2022, https://arxiv.org/abs/2106.08254).

    >>> list(depths([("backbone", "block0", "w"), ("backbone", "token"), ("head", "w")]).values())
    [1, 0, 2]
    """
    bare = {path: path[1:] if path[0] == LORA else path for path in paths}
    found = {path: block_of(layer) for path, layer in bare.items()}
    blocks = sorted({block for block in found.values() if block is not None})
    number_of = {block: number for number, block in enumerate(blocks, 1)}

    def depth(path: Path) -> int:
        block = found[path]
        if block is not None:
            return number_of[block]
        return 0 if set(bare[path]) & set(FIRST) else len(blocks) + 1

    return {path: depth(path) for path in paths}


def learned(paths: Collection[Path], train: str) -> frozenset[Path]:
    """Which parameters of a network learn.

    Args:
      paths: names that lead to all of its parameters.
      train: "all", "head", "last_N", "norm_and_bias", "lora" or "adapter"; see `FinetuneConfig`.

    Returns:
      Those that learn.

    Raises:
      InputError: an unknown name, or more blocks than there are.

    Source: norm_and_bias: Ben Zaken et al., BitFit (ACL 2022, https://arxiv.org/abs/2106.10199),
    with the scales of normalization; lora and adapter: see `ltjax.models.adapters`.

    >>> paths = [("backbone", "block0", "fc", "bias"), ("backbone", "block1", "fc", "kernel"),
    ...          ("head", "kernel")]
    >>> sorted(path[-2:] for path in learned(paths, "last_1"))
    [('fc', 'kernel'), ('head', 'kernel')]
    >>> sorted(path[-2:] for path in learned(paths, "norm_and_bias"))
    [('fc', 'bias'), ('head', 'kernel')]
    """
    require(TRAIN.check(train), "finetune.train", train, TRAIN.words)
    backbone = {path for path in paths if path[0] == "backbone"}
    rest = {path for path in paths if path[0] not in ("backbone", LORA)}
    if train == "all":
        return frozenset(paths)
    if train == "lora":
        return frozenset(rest | {path for path in paths if path[0] == LORA and len(path) > 2})
    chosen: set[Path] = set()
    if train == "adapter":
        chosen = {path for path in backbone if "adapter" in path}
    elif train == "norm_and_bias":
        chosen = {path for path in backbone if path[-1] in _VECTORS}
    elif train != "head":
        chosen = _last(backbone, train)
    return frozenset(rest | chosen)


def _last(backbone: set[Path], train: str) -> set[Path]:
    """The parameters of the last blocks, and of what follows them."""
    number, depth = int(train.removeprefix("last_")), depths(backbone)
    blocks = len({block_of(path) for path in backbone} - {None})
    if number > blocks:
        use = f"last_1 to last_{blocks}, or all" if blocks else "all or head"
        raise InputError(
            f"config.finetune.train = {train} is more than the {blocks} blocks that the backbone "
            f"has; use {use}"
        )
    return {path for path in backbone if depth[path] > blocks - number}


def rates(paths: Collection[Path], layer_decay: float) -> dict[Path, float]:
    """Factors of the learning rate, which falls from the last layer to the first.

        decay^(L + 1 - depth)

    Args:
      paths: names that lead to all parameters of a network.
      layer_decay: the factor from one block to the one before it.

    Returns:
      A factor for each.

    Source: Clark et al., ELECTRA (ICLR 2020, https://arxiv.org/abs/2003.10555), appendix; Bao et
    al., BEiT (ICLR 2022, https://arxiv.org/abs/2106.08254).

    >>> paths = [("backbone", "block0", "w"), ("backbone", "token"), ("head", "w")]
    >>> list(rates(paths, 0.5).values())
    [0.5, 0.25, 1.0]
    """
    depth = depths(paths)
    last = max(depth.values(), default=0)
    return {path: layer_decay ** (last - depth[path]) for path in paths}


def is_vector(path: Path, value: Any) -> bool:
    """Whether a parameter is one that weight decay leaves alone by its name or by its shape.

    These are biases, scales, and the positions and tokens of a Vision Transformer.

    Args:
      path: names that lead to it.
      value: the array.

    Returns:
      Whether it is.

    >>> import numpy as np
    >>> is_vector(("backbone", "positions"), np.ones((4, 8)))
    True
    """
    return value.ndim < 2 or bool({"positions", "token", "registers"} & set(path))
