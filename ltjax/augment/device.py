"""Image augmentation and normalization, jitted over the whole batch, on the device."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltjax.augment.policies import rand_augment


class Augment(NamedTuple):
    """Augmentations of a training batch on the device, applied in this order.

    Attributes:
      max_shift: largest random shift, in pixels ("pad and crop"); 0 turns it off.
      flip: whether to mirror half of the images left to right.
      rand_ops: number of RandAugment operations per image; 0 turns it off.
      rand_magnitude: strength of these operations, from 0 to 10.
      cutout: side of the square that Cutout sets to 0, in pixels; 0 turns it off.
    """

    max_shift: int = 0
    flip: bool = False
    rand_ops: int = 0
    rand_magnitude: float = 9.0
    cutout: int = 0


def augment(images: jax.Array, keys: jax.Array, settings: Augment) -> jax.Array:
    """Augments a batch; each result depends only on the image, its key and the settings.

    Args:
      images: uint8 `[B, H, W, C]`.
      keys: one PRNG key per image, `[B]`.
      settings: which augmentations, and how strong they are.

    Returns:
      uint8 `[B, H, W, C]`.

    Source: ours; each augmentation names its own.
    """
    images = random_shift(images, keys, settings.max_shift)
    # Each has keys of its own, so turning one on leaves the draws of the others as they are.
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
    """Shifts every image at random; what is left empty is 0 ("pad and crop").

    Args:
      images: `[B, H, W, C]`, any dtype.
      keys: one PRNG key per image, `[B]`.
      max_shift: largest shift in each direction, in pixels, >= 0.

    Returns:
      `[B, H, W, C]`, the same dtype.

    Source: He et al., Deep Residual Learning (CVPR 2016), section 4.2,
    https://arxiv.org/abs/1512.03385

    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> random_shift(jnp.ones((2, 8, 8, 3), jnp.uint8), keys, 1).shape
    (2, 8, 8, 3)
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
      images: `[B, H, W, C]`, any dtype.
      keys: one PRNG key per image, `[B]`.

    Returns:
      `[B, H, W, C]`, the same dtype.

    Source: common practice, as in https://arxiv.org/abs/1512.03385, section 4.2.
    """
    heads = jax.vmap(jax.random.bernoulli)(keys)
    return jnp.where(heads[:, None, None, None], images[:, :, ::-1], images)


def cutout(images: jax.Array, keys: jax.Array, size: int) -> jax.Array:
    """Sets a random square of every image to 0.

    The center of the square lies in the image; the square may extend beyond the border.

    Args:
      images: `[B, H, W, C]`, any dtype.
      keys: one PRNG key per image, `[B]`.
      size: side of the square, in pixels.

    Returns:
      `[B, H, W, C]`, the same dtype.

    Source: DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout
    (2017), https://arxiv.org/abs/1708.04552
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
    """Normalizes images per channel, or given features, `(x - mean) / std`.

    Args:
      images: uint8 `[B, H, W, C]`, or features `[B, D]`.
      mean: `[C]`, in units of 0 ... 255, or `[D]`.
      std: `[C]`, > 0, in units of 0 ... 255, or `[D]`.

    Returns:
      float32, the shape of the images.

    Source: ours.

    >>> normalize(jnp.full((1, 1, 1, 1), 5, jnp.uint8), jnp.array([3.0]), jnp.array([2.0])).item()
    1.0
    """
    shape = (1,) * (images.ndim - 1) + (-1,)
    return (images.astype(jnp.float32) - mean.reshape(shape)) / std.reshape(shape)
