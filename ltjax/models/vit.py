"""Vision Transformers, as AugReg, DINOv2 and CLIP publish them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ltjax.errors import InputError
from ltjax.models.adapters import Adapter, AdapterSize
from ltjax.models.depth import STOCHASTIC_DEPTH, branch_scales, scaled

# Width of the hidden layer of a block's MLP, per channel.
EXPANSION = 4
# What the scales of residual branches start from, where there are any.
LAYER_SCALE = 1e-5
_POSITIONS = nn.initializers.normal(0.02)
_KERNEL = nn.initializers.xavier_uniform()


class ViTShape(NamedTuple):
    """The shape of a Vision Transformer.

    Attributes:
      width: channels of a token.
      depth: number of blocks.
      heads: number of attention heads, which divides `width`.
      patch: side of a patch, in pixels.
      grid: number of patches along a side of the images that the positions are learned for.
      token: whether there is a class token, whose output is the features; without one they are the
        mean of the patches' outputs.
      registers: number of further tokens, without positions, that are thrown away in the end.
      pre_norm: whether tokens are normalized before the first block, and patches have no bias.
      layer_scale: whether residual branches are scaled per channel.
      quick_gelu: whether the activation is `x sigmoid(1.702 x)` instead of the exact GELU.
      epsilon: what layer norm adds to the variance.
    """

    width: int
    depth: int
    heads: int
    patch: int
    grid: int = 14
    token: bool = True
    registers: int = 0
    pre_norm: bool = False
    layer_scale: bool = False
    quick_gelu: bool = False
    epsilon: float = 1e-6

    @property
    def positions(self) -> int:
        """Number of tokens with a learned position: the class token and the patches."""
        return self.token + self.grid**2


_TI, _S, _B, _L = (192, 12, 3), (384, 12, 6), (768, 12, 12), (1024, 24, 16)


def _dinov2(size: tuple[int, int, int], registers: int = 0) -> ViTShape:
    return ViTShape(*size, 14, 37, registers=registers, layer_scale=True)


def _clip(size: tuple[int, int, int], patch: int, *, quick_gelu: bool) -> ViTShape:
    return ViTShape(*size, patch, 224 // patch, pre_norm=True, quick_gelu=quick_gelu, epsilon=1e-5)


# By the names of backbones. The first is for CPUs and images of 32 pixels, and was never published.
VITS: dict[str, ViTShape] = {
    "vit_tiny": ViTShape(64, 2, 2, 4, 8),
    "vit_ti16": ViTShape(*_TI, 16),
    "vit_s16": ViTShape(*_S, 16),
    "vit_b16": ViTShape(*_B, 16),
    "vit_l16": ViTShape(*_L, 16),
    "vit_s16_gap": ViTShape(*_S, 16, token=False),
    "vit_b16_gap": ViTShape(*_B, 16, token=False),
    "vit_s14_dinov2": _dinov2(_S),
    "vit_b14_dinov2": _dinov2(_B),
    "vit_l14_dinov2": _dinov2(_L),
    "vit_s14_reg4_dinov2": _dinov2(_S, 4),
    "vit_b14_reg4_dinov2": _dinov2(_B, 4),
    "vit_l14_reg4_dinov2": _dinov2(_L, 4),
    "clip_vit_b16": _clip(_B, 16, quick_gelu=True),
    "clip_vit_l14": _clip(_L, 14, quick_gelu=True),
    "openclip_vit_b16": _clip(_B, 16, quick_gelu=False),
    "openclip_vit_l14": _clip(_L, 14, quick_gelu=False),
}


def quick_gelu(x: jax.Array) -> jax.Array:
    """CLIP's approximation of GELU.

        x sigmoid(1.702 x)

    Args:
      x: of any shape.

    Returns:
      Of the same shape.

    Source: https://github.com/openai/CLIP, clip/model.py.

    >>> float(quick_gelu(jnp.array(0.0)))
    0.0
    """
    return x * nn.sigmoid(1.702 * x)


def resampled(positions: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Learned positions of a square grid of patches, for a grid of another size.

    The interpolation is bicubic, with a low-pass filter where the grid becomes smaller, as in
    timm, for the networks of all families. DINOv2's own code does the same for networks with
    registers; for those without it uses no filter and another cubic, which moves the features of
    the published networks a little.

    Args:
      positions: `[G G, D]`, row by row.
      size: rows and columns of the other grid.

    Returns:
      `[size[0] size[1], D]`; the same positions where the size is.

    Source: timm, `resample_abs_pos_embed`,
    https://github.com/huggingface/pytorch-image-models/blob/main/timm/layers/pos_embed.py.

    >>> resampled(jnp.ones((4, 3)), (3, 5)).shape
    (15, 3)
    """
    count, width = positions.shape
    side = round(count**0.5)
    if size == (side, side):
        return positions
    grid = positions.reshape(side, side, width)
    return jax.image.resize(grid, (*size, width), "cubic").reshape(-1, width)


class Attention(nn.Module):
    """Self-attention of several heads.

    Attributes:
      heads: their number.
      dtype: of the computation.

    Source: Vaswani et al., Attention Is All You Need (NeurIPS 2017,
    https://arxiv.org/abs/1706.03762), section 3.2.
    """

    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, N, D] -> [B, N, D]`."""
        width = x.shape[-1]
        split = (*x.shape[:-1], self.heads, width // self.heads)
        names = ("query", "key", "value")
        query, key, value = (_dense(width, n, self.dtype)(x).reshape(split) for n in names)
        with jax.numpy_dtype_promotion("standard"):  # its softmax of bfloat16 is in float32
            y = jax.nn.dot_product_attention(query, key, value)
        return _dense(width, "out", self.dtype)(y.reshape(x.shape))


class FeedForward(nn.Module):
    """Two dense layers with an activation between them, on each token by itself.

    Attributes:
      quick: whether the activation is `quick_gelu`.
      dtype: of the computation.
    """

    quick: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, N, D] -> [B, N, D]`."""
        width = x.shape[-1]
        y = _dense(EXPANSION * width, "fc1", self.dtype)(x)
        y = quick_gelu(y) if self.quick else nn.gelu(y, approximate=False)
        return _dense(width, "fc2", self.dtype)(y)


class Block(nn.Module):
    """Attention and an MLP, each on normalized tokens and added to what it takes.

        x <- x + scale1 attention(norm1(x))
        x <- x + scale2 mlp(norm2(x))

    Stochastic depth multiplies what is added by further scales, one for each example.

    Attributes:
      shape: of the whole network.
      dtype: of the computation; layer norm computes in float32.
      adapter: size of an adapter beside the MLP, or None.
    """

    shape: ViTShape
    dtype: Any
    adapter: AdapterSize | None = None

    @nn.compact
    def __call__(self, x: jax.Array, scales: Sequence[jax.Array | None]) -> jax.Array:
        """`[B, N, D] -> [B, N, D]`; the scales are `[B]`, or None for 1."""
        shape, dtype = self.shape, self.dtype
        y = Attention(shape.heads, dtype, name="attention")(_norm(x, "norm1", shape, dtype))
        x = x + scaled(self._scaled(y, "scale1"), scales[0])
        normed = _norm(x, "norm2", shape, dtype)
        y = self._scaled(FeedForward(shape.quick_gelu, dtype, name="mlp")(normed), "scale2")
        if self.adapter is not None:
            y = y + Adapter(*self.adapter, dtype, name="adapter")(normed)
        return x + scaled(y, scales[1])

    def _scaled(self, y: jax.Array, name: str) -> jax.Array:
        if not self.shape.layer_scale:
            return y
        start = nn.initializers.constant(LAYER_SCALE)
        scale = self.param(name, start, (y.shape[-1],), jnp.float32)
        return y * scale.astype(y.dtype)[None, None]


class VisionTransformer(nn.Module):
    """Patches as tokens, blocks of attention and MLP, and a layer norm.

    The features are the output of the class token, as AugReg, DINOv2 and CLIP (before its
    projection) use them, or the mean of the patches' outputs where there is no class token. Images
    of another size than the positions were learned for get resampled positions (`resampled`).

    Attributes:
      shape: of the network.
      dtype: dtype of the computation; parameters are float32.
      remat: whether the backward pass computes each block again instead of keeping its values, for
        GPUs and TPUs; on a CPU, XLA orders the operations so that it saves no memory.
      adapter: size of the adapters of fine-tuning, or None for none.
      stochastic_depth: probability of dropping the last block's branches in training; see
        `ltjax.models.depth`.

    Source: Dosovitskiy et al., An Image Is Worth 16x16 Words (ICLR 2021,
    https://arxiv.org/abs/2010.11929); pre-norm and quick GELU are from Radford et al., CLIP (ICML
    2021, https://arxiv.org/abs/2103.00020), the scales from Touvron et al., Going Deeper with Image
    Transformers (ICCV 2021, https://arxiv.org/abs/2103.17239), as Oquab et al., DINOv2 (TMLR 2024,
    https://arxiv.org/abs/2304.07193) use them, and registers from Darcet et al., Vision
    Transformers Need Registers (ICLR 2024, https://arxiv.org/abs/2309.16588).
    """

    shape: ViTShape
    dtype: Any = jnp.float32
    remat: bool = False
    adapter: AdapterSize | None = None
    stochastic_depth: float = STOCHASTIC_DEPTH.default

    @property
    def features(self) -> int:
        """Channels of the output."""
        return self.shape.width

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Images `[B, H, W, C] -> features [B, width]`; H and W are multiples of the patch."""
        shape = self.shape
        x = self._tokens(x)
        if shape.pre_norm:
            x = _norm(x, "pre_norm", shape, self.dtype)
        block = nn.remat(Block) if self.remat else Block
        scales = branch_scales(self, self.stochastic_depth, shape.depth, train=train, branches=2)
        for number in range(shape.depth):
            x = block(shape, self.dtype, self.adapter, name=f"block{number}")(x, scales[number])
        if shape.token:
            return _norm(x[:, 0], "norm", shape, self.dtype)
        patches = _norm(x[:, shape.registers :], "norm", shape, self.dtype)
        return jnp.mean(patches, axis=1)

    def _tokens(self, images: jax.Array) -> jax.Array:
        """`[B, H, W, C] -> [B, N, width]`: the class token, the registers, and the patches."""
        shape, dtype = self.shape, self.dtype
        width, patch = shape.width, (shape.patch, shape.patch)
        x = nn.Conv(
            width,
            patch,
            patch,
            padding="VALID",
            use_bias=not shape.pre_norm,
            dtype=dtype,
            name="patches",
        )(_divisible(images, shape.patch))
        batch, rows, columns, _ = x.shape
        positions = self.param("positions", _POSITIONS, (shape.positions, width), jnp.float32)
        there = resampled(positions[shape.token :], (rows, columns))
        tokens = [x.reshape(batch, rows * columns, width) + there.astype(dtype)[None]]
        if shape.registers:
            registers = self.param("registers", _POSITIONS, (shape.registers, width), jnp.float32)
            tokens.insert(0, _spread(registers, batch, dtype))
        if shape.token:
            token = self.param("token", nn.initializers.zeros, (1, width), jnp.float32)
            tokens.insert(0, _spread(token + positions[:1], batch, dtype))
        return jnp.concatenate(tokens, axis=1)


def _dense(width: int, name: str, dtype: Any) -> nn.Dense:
    return nn.Dense(width, kernel_init=_KERNEL, dtype=dtype, name=name)


def _norm(x: jax.Array, name: str, shape: ViTShape, dtype: Any) -> jax.Array:
    """Layer norm in float32; to be called inside a compact module."""
    layer = nn.LayerNorm(shape.epsilon, jnp.float32, use_fast_variance=False, name=name)
    return layer(x.astype(jnp.float32)).astype(dtype)


def _spread(tokens: jax.Array, batch: int, dtype: Any) -> jax.Array:
    """`[N, D] -> [B, N, D]`."""
    return jnp.broadcast_to(tokens.astype(dtype), (batch, *tokens.shape))


def _divisible(images: jax.Array, patch: int) -> jax.Array:
    height, width = images.shape[1:3]
    if height % patch or width % patch or not height * width:
        near = max(patch, round(height / patch) * patch)
        raise InputError(
            f"images of {height} x {width} pixels have no whole patches of {patch} x {patch}; "
            f"resize them to a multiple, such as data.image_size = {near}"
        )
    return images
