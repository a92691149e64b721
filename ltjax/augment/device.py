"""Image augmentation and normalization, jitted over the whole batch, on the device."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltjax.augment.policies import rand_augment


class Augment(NamedTuple):
    """What is done to a training batch on the device, in this order.

    Attributes:
      max_shift: random shift in pixels ("pad and crop").
      flip: mirror half of the images left to right.
      rand_ops: operations of RandAugment on every image; 0 is none.
      rand_magnitude: their strength, 0 to 10.
      cutout: side of the square that is set to 0, in pixels; 0 is none.
    """

    max_shift: int = 0
    flip: bool = False
    rand_ops: int = 0
    rand_magnitude: float = 9.0
    cutout: int = 0


def augment(images: jax.Array, keys: jax.Array, settings: Augment) -> jax.Array:
    """Augments a batch; what happens to an image is a function of it and its key.

    Args:
      images: uint8 `[B, H, W, C]`.
      keys: one PRNG key per image, `[B]`.
      settings: what to do.

    Returns:
      uint8 `[B, H, W, C]`.
    """
    images = random_shift(images, keys, settings.max_shift)
    # Keys of their own: adding one augmentation leaves the draws of the others as they are.
    if settings.flip:
        images = random_flip(images, _fold(keys, 2))
    if settings.rand_ops:
        images = rand_augment(
            images, _fold(keys, 3), ops=settings.rand_ops, magnitude=settings.rand_magnitude
        )
    if settings.cutout:
        images = cutout(images, _fold(keys, 4), settings.cutout)
    return images


def _fold(keys: jax.Array, number: int) -> jax.Array:
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def random_shift(images: jax.Array, keys: jax.Array, max_shift: int) -> jax.Array:
    """Shifts every image by up to `max_shift` pixels each way; the border repeats 0.

    The crop of a zero-padded image ("pad and crop").

    Args:
      images: `[B, H, W, C]`, any dtype.
      keys: one PRNG key per image, `[B]`.
      max_shift: pixels, >= 0.

    Returns:
      `[B, H, W, C]`, the same dtype.
    """
    if max_shift == 0:
        return images
    pad = ((max_shift, max_shift), (max_shift, max_shift), (0, 0))

    def shift(image, key):
        offset = jax.random.randint(key, (2,), 0, 2 * max_shift + 1)
        start = (offset[0], offset[1], jnp.zeros((), offset.dtype))
        return jax.lax.dynamic_slice(jnp.pad(image, pad), start, image.shape)

    return jax.vmap(shift)(images, keys)


def random_flip(images: jax.Array, keys: jax.Array) -> jax.Array:
    """Mirrors every image left to right with probability 1/2.

    Args:
      images: `[B, H, W, C]`.
      keys: `[B]`.
    """
    heads = jax.vmap(jax.random.bernoulli)(keys)
    return jnp.where(heads[:, None, None, None], images[:, :, ::-1], images)


def cutout(images: jax.Array, keys: jax.Array, size: int) -> jax.Array:
    """Sets a square at a random place to 0; its center lies in the image, its edges may not.

    Args:
      images: `[B, H, W, C]`.
      keys: `[B]`.
      size: side in pixels.

    Source: DeVries and Taylor (2017), https://arxiv.org/abs/1708.04552.
    """
    height, width = images.shape[1:3]

    def erase(image, key):
        rows, columns = jax.random.split(key)
        top = jax.random.randint(rows, (), 0, height) - size // 2
        left = jax.random.randint(columns, (), 0, width) - size // 2
        y, x = jnp.arange(height), jnp.arange(width)
        inside = ((y >= top) & (y < top + size))[:, None] & ((x >= left) & (x < left + size))[None]
        return jnp.where(inside[:, :, None], jnp.zeros_like(image), image)

    return jax.vmap(erase)(images, keys)


def normalize(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """uint8 `[B, H, W, C]` to float32, `(x - mean) / std` per channel, in units of 0 ... 255."""
    shape = (1, 1, 1, -1)
    return (images.astype(jnp.float32) - mean.reshape(shape)) / std.reshape(shape)
