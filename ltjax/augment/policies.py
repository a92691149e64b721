"""RandAugment on the device: random operations on each image, drawn from the key of the image.

Fourteen operations are drawn with equal probability, all of one magnitude from 0 to 10. The
geometric ones fill what they leave empty with gray (128). `searched` draws them in other ways.

Source: Cubuk et al., RandAugment (NeurIPS 2020), https://arxiv.org/abs/1909.13719.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

FILL = 128.0


def rand_augment(
    images: jax.Array, keys: jax.Array, *, ops: int = 2, magnitude: float = 9.0
) -> jax.Array:
    """Applies random operations to every image.

    Args:
      images: uint8 `[B, H, W, C]`.
      keys: one PRNG key per image, `[B]`.
      ops: number of operations per image.
      magnitude: their strength, from 0 to 10.

    Returns:
      uint8 `[B, H, W, C]`.

    Source: Cubuk et al., RandAugment (NeurIPS 2020), https://arxiv.org/abs/1909.13719
    """

    def one(image, key):
        image = image.astype(jnp.float32)
        for number in range(ops):
            choice, sign = jax.random.split(jax.random.fold_in(key, number))
            which = jax.random.randint(choice, (), 0, len(DRAWN))
            sign = jnp.where(jax.random.bernoulli(sign), 1.0, -1.0)
            image = apply(image, which, sign * magnitude / 10)
        return jnp.round(image).astype(jnp.uint8)

    return each_image(one, images, keys)


def each_image(
    one: Callable[[jax.Array, jax.Array], jax.Array], images: jax.Array, keys: jax.Array
) -> jax.Array:
    """Applies a function to every image, with its key.

    On CPU one image follows the other, so that of the operations among which `apply` chooses only
    one is computed. Elsewhere all images go through every operation at once.

    Args:
      one: from an image and its key to an image.
      images: `[B, H, W, C]`.
      keys: one PRNG key per image, `[B]`.

    Returns:
      `[B, H, W, C]`; on CPU the numbers may be rounded otherwise than elsewhere.

    Source: ours.
    """
    in_turn = jax.vmap(jax.custom_batching.sequential_vmap(one))
    out: jax.Array = jax.lax.platform_dependent(images, keys, cpu=in_turn, default=jax.vmap(one))
    return out


def apply(image: jax.Array, which: jax.Array, strength: jax.Array) -> jax.Array:
    """Applies one operation to an image.

    Args:
      image: float32 `[H, W, C]`, in 0 ... 255.
      which: index into `OPERATIONS`, int `[]`.
      strength: signed magnitude in -1 ... 1, `[]`; operations without a direction use its absolute
        value.

    Returns:
      float32 `[H, W, C]`, in 0 ... 255.

    Source: see `rand_augment`.
    """
    branches: list[Callable[[jax.Array], jax.Array]] = [
        partial(operation, strength=strength) for operation in POINTWISE.values()
    ]
    branches.append(partial(_warp, kind=which - len(POINTWISE), strength=strength))
    branches.append(_invert)
    last = which == len(OPERATIONS) - 1
    out = jax.lax.switch(
        jnp.where(last, len(branches) - 1, jnp.minimum(which, len(POINTWISE))), branches, image
    )
    return jnp.clip(out, 0, 255)


def _blend(low: jax.Array, high: jax.Array, factor: jax.Array) -> jax.Array:
    return low + factor * (high - low)


def _gray(x: jax.Array) -> jax.Array:
    if x.shape[-1] != 3:
        return x
    weights = jnp.array([0.299, 0.587, 0.114], jnp.float32)
    return jnp.broadcast_to(jnp.sum(x * weights[None, None, :], axis=-1, keepdims=True), x.shape)


def _identity(x: jax.Array, strength: jax.Array) -> jax.Array:
    return x


def _invert(x: jax.Array) -> jax.Array:
    return 255 - x


def _auto_contrast(x: jax.Array, strength: jax.Array) -> jax.Array:
    low, high = (f(x, axis=(0, 1), keepdims=True) for f in (jnp.min, jnp.max))
    spread = high > low
    scale = 255 / jnp.where(spread, high - low, jnp.ones_like(high))
    return jnp.where(spread, (x - low) * scale, x)


def _equalize(x: jax.Array, strength: jax.Array) -> jax.Array:
    levels = jnp.round(x).astype(jnp.int32)

    def channel(level: jax.Array) -> jax.Array:
        counts = jnp.zeros(256, jnp.int32).at[level.ravel()].add(1)
        last = counts[255 - jnp.argmax(counts[::-1] > 0)]
        step = (level.size - last) // 255  # in integers, like Pillow
        table = (jnp.cumsum(counts) - counts + step // 2) // jnp.maximum(step, 1)
        return jnp.where(step > 0, jnp.minimum(table, 255)[level], level).astype(jnp.float32)

    return jax.vmap(channel, in_axes=2, out_axes=2)(levels)


def _solarize(x: jax.Array, strength: jax.Array) -> jax.Array:
    return jnp.where(x < 256 * (1 - jnp.abs(strength)), x, 255 - x)


def _posterize(x: jax.Array, strength: jax.Array) -> jax.Array:
    step = 2 ** jnp.round(4 * jnp.abs(strength))  # keeps 8 to 4 bits
    return jnp.floor(x / step) * step


def _color(x: jax.Array, strength: jax.Array) -> jax.Array:
    return _blend(_gray(x), x, 1 + 0.9 * strength)


def _contrast(x: jax.Array, strength: jax.Array) -> jax.Array:
    return _blend(jnp.full_like(x, 1) * jnp.mean(_gray(x)), x, 1 + 0.9 * strength)


def _brightness(x: jax.Array, strength: jax.Array) -> jax.Array:
    return x * (1 + 0.9 * strength)


def _sharpness(x: jax.Array, strength: jax.Array) -> jax.Array:
    return _blend(_smooth(x), x, 1 + 0.9 * strength)


def _smooth(x: jax.Array) -> jax.Array:
    """The mean of 3 x 3 pixels with a heavier center; the border is left as it is."""
    padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = x.shape[:2]
    total = 4 * x
    for i in range(3):
        for j in range(3):
            total += padded[i : i + height, j : j + width]
    inner = jnp.zeros(x.shape[:2], bool).at[1:-1, 1:-1].set(True)
    return jnp.where(inner[:, :, None], total / 13, x)


def _warp(x: jax.Array, kind: jax.Array, strength: jax.Array) -> jax.Array:
    """The operation `GEOMETRIC[kind]`, bilinear.

    Rotations are by up to 30 degrees, shears by up to 0.3, translations by up to a third.
    """
    height, width = x.shape[:2]
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


# The operations on pixel values, by name; the geometric ones share one interpolation, `_warp`.
POINTWISE: dict[str, Callable[..., jax.Array]] = {
    "identity": _identity,
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "solarize": _solarize,
    "posterize": _posterize,
    "color": _color,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
}
GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
# What RandAugment and TrivialAugment draw from; policies that were searched for invert as well.
DRAWN = (*POINTWISE, *GEOMETRIC)
OPERATIONS = (*DRAWN, "invert")
