"""How files name the layers of Vision Transformers."""

import re
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from ltjax.models.pretrained.naming import (
    Naming,
    Path,
    Place,
    Shapes,
    Tensors,
    identity,
    torch_head,
    transposed,
    transposed_shape,
    without_prefix,
)
from ltjax.models.vit import VisionTransformer, resampled

_PARTS = ("query", "key", "value")
_BLOCK = re.compile(r"block(\d+)")
# More blocks than any network has; an array of nothing may have billions of rows.
_DEEPEST = 1000
_STACKED = "Transformer/encoderblock/"


class ViTNames(NamedTuple):
    """Names of the layers of a Vision Transformer in files of PyTorch.

    Attributes:
      layers: of layers and tokens outside of blocks, by ours.
      block: of a block, from its `index`.
      inside: of the layers of a block, by ours; `qkv` where query, key and value are one tensor, of
        the name but for "weight" or "bias".
    """

    layers: Mapping[str, str]
    block: str
    inside: Mapping[str, str]


TIMM_NAMES = ViTNames(
    {
        "patches": "patch_embed.proj",
        "token": "cls_token",
        "positions": "pos_embed",
        "registers": "reg_token",
        "pre_norm": "norm_pre",
        "norm": "norm",
    },
    "blocks.{index}.",
    {
        "norm1": "norm1",
        "qkv": "attn.qkv.",
        "out": "attn.proj",
        "scale1": "ls1.gamma",
        "norm2": "norm2",
        "fc1": "mlp.fc1",
        "fc2": "mlp.fc2",
        "scale2": "ls2.gamma",
    },
)
DINOV2_NAMES = TIMM_NAMES._replace(layers={**TIMM_NAMES.layers, "registers": "register_tokens"})
CLIP_NAMES = ViTNames(
    {
        "patches": "conv1",
        "token": "class_embedding",
        "positions": "positional_embedding",
        "pre_norm": "ln_pre",
        "norm": "ln_post",
    },
    "transformer.resblocks.{index}.",
    {
        "norm1": "ln_1",
        "qkv": "attn.in_proj_",
        "out": "attn.out_proj",
        "norm2": "ln_2",
        "fc1": "mlp.c_fc",
        "fc2": "mlp.c_proj",
    },
)
HF_CLIP_NAMES = ViTNames(
    {
        "patches": "embeddings.patch_embedding",
        "token": "embeddings.class_embedding",
        "positions": "embeddings.position_embedding.weight",
        "pre_norm": "pre_layrnorm",  # so it is spelled there
        "norm": "post_layernorm",
    },
    "encoder.layers.{index}.",
    {
        "norm1": "layer_norm1",
        "query": "self_attn.q_proj",
        "key": "self_attn.k_proj",
        "value": "self_attn.v_proj",
        "out": "self_attn.out_proj",
        "norm2": "layer_norm2",
        "fc1": "mlp.fc1",
        "fc2": "mlp.fc2",
    },
)
HF_DINOV2_NAMES = ViTNames(
    {
        "patches": "embeddings.patch_embeddings.projection",
        "token": "embeddings.cls_token",
        "positions": "embeddings.position_embeddings",
        "registers": "embeddings.register_tokens",
        "norm": "layernorm",
    },
    "encoder.layer.{index}.",
    {
        "norm1": "norm1",
        "query": "attention.attention.query",
        "key": "attention.attention.key",
        "value": "attention.attention.value",
        "out": "attention.output.dense",
        "scale1": "layer_scale1.lambda1",
        "norm2": "norm2",
        "fc1": "mlp.fc1",
        "fc2": "mlp.fc2",
        "scale2": "layer_scale2.lambda1",
    },
)


def _torch_places(names: ViTNames, shapes: Shapes, backbone: nn.Module) -> dict[Path, Place]:
    """Where a file of PyTorch has the variables."""
    flat = {"token", "positions", "registers"}
    found: dict[Path, Place] = {}
    for path, shape in shapes.items():
        layer, leaf = path[-2], path[-1]
        block = _BLOCK.fullmatch(path[1])
        prefix = names.block.format(index=block[1]) if block else ""
        known = names.inside if block else names.layers
        if leaf in flat or (leaf.startswith("scale") and leaf != "scale"):
            name = prefix + known.get(leaf, leaf)
            found[path] = Place(name, shape, identity)
            continue
        word = "bias" if leaf == "bias" else "weight"
        if layer in _PARTS and "qkv" in known:
            third = partial(_third, number=_PARTS.index(layer))
            whole = (3 * shape[-1], *shape[:-1])
            found[path] = Place(f"{prefix}{known['qkv']}{word}", whole, third)
        elif leaf == "kernel":
            name = f"{prefix}{known.get(layer, layer)}.weight"
            found[path] = Place(name, transposed_shape(shape), transposed)
        else:
            found[path] = Place(f"{prefix}{known.get(layer, layer)}.{word}", shape, identity)
    return found


def _third(array: np.ndarray, number: int) -> np.ndarray:
    """The kernel `[D, D]` or the bias `[D]` of a query, key or value, from all three."""
    return np.split(array, 3)[number].T


def _npz_places(
    shapes: Shapes, backbone: nn.Module, *, numbers: tuple[int, int, int]
) -> dict[Path, Place]:
    """Where a file of Flax has the variables.

    Args:
      shapes: of the variables.
      backbone: whose heads are told apart there.
      numbers: of the attention, the second layer norm and the MLP in a block.
    """
    assert isinstance(backbone, VisionTransformer)
    heads, (attention, norm2, mlp) = backbone.shape.heads, numbers
    layers = {
        "norm1": "LayerNorm_0",
        **{part: f"MultiHeadDotProductAttention_{attention}/{part}" for part in (*_PARTS, "out")},
        "norm2": f"LayerNorm_{norm2}",
        "fc1": f"MlpBlock_{mlp}/Dense_0",
        "fc2": f"MlpBlock_{mlp}/Dense_1",
    }
    outside = {"patches": "embedding", "norm": "Transformer/encoder_norm"}
    tokens = {"token": "cls", "positions": "pos_embedding"}
    found: dict[Path, Place] = {}
    for path, shape in shapes.items():
        layer, leaf = path[-2], path[-1]
        if block := _BLOCK.fullmatch(path[1]):
            name = f"Transformer/encoderblock_{block[1]}/{layers.get(layer, layer)}/{leaf}"
        else:
            name = tokens.get(leaf, f"{outside.get(layer, layer)}/{leaf}")
        there = shape
        if layer in _PARTS:
            there = (*shape[:-1], heads, shape[-1] // heads)
        elif layer == "out" and leaf == "kernel":
            there = (heads, shape[0] // heads, shape[1])
        found[path] = Place(name, there, partial(np.reshape, shape=shape))
    return found


def _prepared(
    tensors: Tensors, shapes: Shapes, *, prefixes: tuple[str, ...], tokens: Mapping[str, str]
) -> Tensors:
    """Tensors without prefixes; tokens as matrices, and positions of the backbone's grid."""
    found = dict(without_prefix(tensors, prefixes))
    for ours, name in tokens.items():
        wanted = shapes.get(("params", ours))
        if wanted and name in found:
            found[name] = _rows(found[name], wanted, positions=ours == "positions")
    return found


def _rows(array: np.ndarray, wanted: tuple[int, ...], *, positions: bool) -> np.ndarray:
    """Tokens as `[N, D]`; positions are resampled, and a class token without one has position 0.

    What is no such tokens stays as it is, and is of another shape.
    """
    floats = jnp.issubdtype(array.dtype, jnp.floating)
    if not array.size or not array.ndim or array.shape[-1] != wanted[1] or not floats:
        return array
    rows = array.reshape(-1, wanted[1])
    if not positions or len(rows) == wanted[0]:
        return rows
    token = not _is_square(wanted[0])
    if token and _is_square(len(rows)):
        rows = np.concatenate([np.zeros_like(rows[:1]), rows])
    grid, side = rows[token:], round((wanted[0] - token) ** 0.5)
    if not _is_square(len(grid)):
        return rows
    other = resampled(jnp.asarray(grid, jnp.float32), (side, side))
    return np.concatenate([rows[:token].astype(np.float32), np.asarray(other)])


def _is_square(count: int) -> bool:
    """Whether patches of this number may fill a square.

    >>> [n for n in range(18) if _is_square(n)]
    [1, 4, 9, 16]
    """
    return count > 0 and round(count**0.5) ** 2 == count


def _npz_prepared(tensors: Tensors, shapes: Shapes) -> Tensors:
    """Blocks of a file one by one, and without prefixes; one of two names for the positions."""
    found = dict(without_prefix(tensors, ("params/", "opt/target/")))
    for name in [n for n in found if n.startswith(_STACKED)]:
        inner = name.removeprefix(_STACKED)
        if not found[name].ndim or len(found[name]) > _DEEPEST:
            continue
        for number, array in enumerate(found.pop(name)):
            found[f"{_STACKED[:-1]}_{number}/{inner}"] = array
    older = "Transformer/posembed_input/pos_embedding"
    if older in found:
        found["pos_embedding"] = found.pop(older)
    tokens = {"token": "cls", "positions": "pos_embedding"}
    return _prepared(found, shapes, prefixes=(), tokens=tokens)


def _npz_head(tensors: Tensors) -> dict[str, np.ndarray]:
    names = {"kernel": "head/kernel", "bias": "head/bias"}
    return {key: tensors[name] for key, name in names.items() if name in tensors}


def _clip_head(tensors: Tensors) -> dict[str, np.ndarray]:
    """The projection to the space that images and texts share."""
    return {"kernel": tensors["proj"]} if "proj" in tensors else {}


def _torch(
    names: ViTNames, head: str, prefixes: tuple[str, ...] = (), beside: tuple[str, ...] = ()
) -> Naming:
    """A naming of PyTorch's modules; `beside` are the beginnings of names that are left out."""
    tokens = {k: v for k, v in names.layers.items() if k in ("token", "positions", "registers")}
    return Naming(
        partial(_torch_places, names),
        torch_head(head),
        lambda name: name.startswith((f"{head}.", *beside)),
        partial(_prepared, prefixes=prefixes, tokens=tokens),
    )


def _hf_clip_prepared(tensors: Tensors, shapes: Shapes) -> Tensors:
    """The tower of images with the projection, which lies beside it."""
    found, name = dict(_HF_CLIP.prepared(tensors, shapes)), "visual_projection.weight"
    return {**found, name: tensors[name]} if name in tensors else found


# The token of masked patches is no part of a network of whole images.
TIMM = _torch(TIMM_NAMES, "head", beside=("mask_token",))
DINOV2 = _torch(DINOV2_NAMES, "head", beside=("mask_token",))
CLIP = _torch(CLIP_NAMES, "proj", ("visual.",))._replace(
    head=_clip_head, beside=lambda name: name == "proj"
)
_HF_CLIP = _torch(
    HF_CLIP_NAMES, "visual_projection", ("vision_model.",), ("embeddings.position_ids",)
)
HF_CLIP = _HF_CLIP._replace(prepared=_hf_clip_prepared)
HF_DINOV2 = _torch(
    HF_DINOV2_NAMES,
    "classifier",
    ("dinov2.", "dinov2_with_registers."),
    ("embeddings.mask_token",),
)


def _npz(attention: int, norm2: int, mlp: int) -> Naming:
    return Naming(
        partial(_npz_places, numbers=(attention, norm2, mlp)),
        _npz_head,
        lambda name: name.startswith(("head/", "pre_logits/")),
        _npz_prepared,
    )


# Modules of a block are numbered in the order of their calls, or by kind.
AUGREG, BIG_VISION = _npz(1, 2, 3), _npz(0, 1, 0)
VIT_NAMINGS = (TIMM, DINOV2, CLIP, HF_CLIP, HF_DINOV2, AUGREG, BIG_VISION)
