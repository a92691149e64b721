"""Image augmentation and normalization, jitted over the whole batch, on the device."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltjax.augment.policies import rand_augment
from ltjax.augment.searched import POLICIES

# Random erasing: share of the area that is filled, and how many times as long as wide it is.
ERASED_AREA = (0.02, 0.4)
ERASED_ASPECT = 3.3


class Augment(NamedTuple):
    """Augmentations of a training batch on the device, applied in this order.

    Attributes:
      max_shift: largest random shift, in pixels ("pad and crop"); 0 turns it off.
      flip: whether to mirror half of the images left to right.
      rand_ops: number of RandAugment operations per image; 0 turns it off.
      rand_magnitude: strength of these operations, from 0 to 10.
      cutout: side of the square that Cutout sets to 0, in pixels; 0 turns it off.
      policy: a name of `ltjax.augment.searched.POLICIES`.
      erasing: probability that random erasing fills a rectangle of an image; 0 turns it off.
    """

    max_shift: int = 0
    flip: bool = False
    rand_ops: int = 0
    rand_magnitude: float = 9.0
    cutout: int = 0
    policy: str = "none"
    erasing: float = 0.0


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
    policy = POLICIES[settings.policy]
    if policy is not None:
        images = policy(images, _fold(keys, 5))
    if settings.rand_ops:
        images = rand_augment(
            images, _fold(keys, 3), ops=settings.rand_ops, magnitude=settings.rand_magnitude
        )
    if settings.cutout:
        images = cutout(images, _fold(keys, 4), settings.cutout)
    if settings.erasing:
        images = random_erasing(images, _fold(keys, 6), settings.erasing)
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


def random_erasing(images: jax.Array, keys: jax.Array, probability: float) -> jax.Array:
    """Fills a random rectangle of some images with random pixels.

    Its area is 2 to 40% of the image's, and it is at most 3.3 times as long as wide, or as wide as
    long. It lies in the image as a whole; one that is too long is cut to the image's side.

    Args:
      images: uint8 `[B, H, W, C]`.
      keys: one PRNG key per image, `[B]`.
      probability: of an image to be changed.

    Returns:
      uint8 `[B, H, W, C]`.

    Source: Zhong et al., Random Erasing Data Augmentation (AAAI 2020),
    https://arxiv.org/abs/1708.04896; a rectangle that does not fit is cut instead of drawn again.
    """
    height, width = images.shape[1:3]

    def erase(image: jax.Array, key: jax.Array) -> jax.Array:
        used, size, shape, place, fill = jax.random.split(key, 5)
        area = jax.random.uniform(size, minval=ERASED_AREA[0], maxval=ERASED_AREA[1])
        limit = jnp.log(jnp.float32(ERASED_ASPECT))
        aspect = jnp.exp(jax.random.uniform(shape, minval=-limit, maxval=limit))
        sides = jnp.sqrt(area * height * width * jnp.stack([aspect, 1 / aspect]))
        most = jnp.array([height, width], jnp.float32)
        sides = jnp.clip(jnp.round(sides), 1, most)
        first = jnp.floor(jax.random.uniform(place, (2,)) * (most - sides + 1)).astype(jnp.int32)
        sides = sides.astype(jnp.int32)
        y, x = jnp.arange(height), jnp.arange(width)
        rows = (y >= first[0]) & (y < first[0] + sides[0])
        columns = (x >= first[1]) & (x < first[1] + sides[1])
        inside = rows[:, None] & columns[None] & (jax.random.uniform(used) < probability)
        pixels = jax.random.randint(fill, image.shape, 0, 256).astype(image.dtype)
        return jnp.where(inside[:, :, None], pixels, image)

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
