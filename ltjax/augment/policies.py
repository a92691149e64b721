"""RandAugment on the device: every image gets some operations, drawn from its key.

Source: Cubuk et al., RandAugment (NeurIPS 2020): fourteen operations, drawn with equal
probability, all at one magnitude from 0 to 10. Geometric operations fill with grey 128.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

OPERATIONS = (
    *("identity", "auto_contrast", "equalize", "solarize", "posterize", "colour", "contrast"),
    *("brightness", "sharpness", "rotate", "shear_x", "shear_y", "translate_x", "translate_y"),
)
_FIRST_GEOMETRIC = OPERATIONS.index("rotate")
FILL = 128.0


def rand_augment(
    images: jax.Array, keys: jax.Array, *, ops: int = 2, magnitude: float = 9.0
) -> jax.Array:
    """Applies `ops` random operations to every image.

    Args:
      images: uint8 `[B, H, W, C]`.
      keys: one PRNG key per image, `[B]`.
      ops: operations an image.
      magnitude: of them, 0 to 10.

    Returns:
      uint8 `[B, H, W, C]`.
    """

    def one(image, key):
        image = image.astype(jnp.float32)
        for number in range(ops):
            choice, sign = jax.random.split(jax.random.fold_in(key, number))
            which = jax.random.randint(choice, (), 0, len(OPERATIONS))
            sign = jnp.where(jax.random.bernoulli(sign), 1.0, -1.0)
            image = apply(image, which, sign * magnitude / 10)
        return jnp.round(image).astype(jnp.uint8)

    return jax.vmap(one)(images, keys)


def apply(image: jax.Array, which: jax.Array, strength: jax.Array) -> jax.Array:
    """One operation.

    Args:
      image: float32 `[H, W, C]`, 0 ... 255.
      which: place in `OPERATIONS`.
      strength: signed magnitude, -1 ... 1; operations without direction take its size.

    Returns:
      float32 `[H, W, C]`, 0 ... 255.
    """
    size = jnp.abs(strength)
    operations: list[Callable[[jax.Array], jax.Array]] = [
        lambda x: x,
        _auto_contrast,
        _equalize,
        lambda x: jnp.where(x < 256 * (1 - size), x, 255 - x),
        lambda x: _posterize(x, size),
        lambda x: _blend(_grey(x), x, 1 + 0.9 * strength),
        lambda x: _blend(jnp.full_like(x, 1) * jnp.mean(_grey(x)), x, 1 + 0.9 * strength),
        lambda x: x * (1 + 0.9 * strength),
        lambda x: _blend(_smooth(x), x, 1 + 0.9 * strength),
        partial(_warp, which=which, strength=strength),
    ]
    out = jax.lax.switch(jnp.minimum(which, _FIRST_GEOMETRIC), operations, image)
    return jnp.clip(out, 0, 255)


def _blend(low: jax.Array, high: jax.Array, factor: jax.Array) -> jax.Array:
    return low + factor * (high - low)


def _grey(x: jax.Array) -> jax.Array:
    if x.shape[-1] != 3:
        return x
    weights = jnp.array([0.299, 0.587, 0.114], jnp.float32)
    return jnp.broadcast_to(jnp.sum(x * weights[None, None, :], axis=-1, keepdims=True), x.shape)


def _auto_contrast(x: jax.Array) -> jax.Array:
    low, high = (f(x, axis=(0, 1), keepdims=True) for f in (jnp.min, jnp.max))
    spread = high > low
    scale = 255 / jnp.where(spread, high - low, jnp.ones_like(high))
    return jnp.where(spread, (x - low) * scale, x)


def _equalize(x: jax.Array) -> jax.Array:
    levels = jnp.round(x).astype(jnp.int32)

    def channel(level: jax.Array) -> jax.Array:
        counts = jnp.zeros(256, jnp.int32).at[level.ravel()].add(1)
        last = counts[255 - jnp.argmax(counts[::-1] > 0)]
        step = (level.size - last) // 255  # the integers of the field's library
        table = (jnp.cumsum(counts) - counts + step // 2) // jnp.maximum(step, 1)
        return jnp.where(step > 0, jnp.minimum(table, 255)[level], level).astype(jnp.float32)

    return jax.vmap(channel, in_axes=2, out_axes=2)(levels)


def _posterize(x: jax.Array, size: jax.Array) -> jax.Array:
    step = 2 ** jnp.round(4 * size)  # keeps 8 to 4 bits
    return jnp.floor(x / step) * step


def _smooth(x: jax.Array) -> jax.Array:
    """The 3 x 3 mean with a heavier middle; the border stays."""
    padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = x.shape[:2]
    total = 4 * x
    for i in range(3):
        for j in range(3):
            total += padded[i : i + height, j : j + width]
    inner = jnp.zeros(x.shape[:2], bool).at[1:-1, 1:-1].set(True)
    return jnp.where(inner[:, :, None], total / 13, x)


def _warp(x: jax.Array, which: jax.Array, strength: jax.Array) -> jax.Array:
    """Rotation by up to 30 degrees, shear by up to 0.3, translation by up to a third; bilinear."""
    height, width = x.shape[:2]
    kind = which - _FIRST_GEOMETRIC
    angle = jnp.where(kind == 0, jnp.deg2rad(30.0) * strength, 0.0)
    shear_x, shear_y = (jnp.where(kind == k, 0.3 * strength, 0.0) for k in (1, 2))
    shift_x = jnp.where(kind == 3, strength * width / 3, 0.0)
    shift_y = jnp.where(kind == 4, strength * height / 3, 0.0)
    rows = jnp.arange(height, dtype=jnp.float32)[:, None] - (height - 1) / 2
    columns = jnp.arange(width, dtype=jnp.float32)[None, :] - (width - 1) / 2
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    from_y = cos * rows + sin * columns + shear_y * columns + shift_y + (height - 1) / 2
    from_x = cos * columns - sin * rows + shear_x * rows + shift_x + (width - 1) / 2
    places = [jnp.broadcast_to(p, (height, width)) for p in (from_y, from_x)]

    def channel(plane: jax.Array) -> jax.Array:
        return jax.scipy.ndimage.map_coordinates(plane, places, order=1, mode="constant", cval=FILL)

    return jax.vmap(channel, in_axes=2, out_axes=2)(x)
