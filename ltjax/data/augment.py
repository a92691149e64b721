"""Image augmentation and normalisation, jitted, on the device."""

import jax
import jax.numpy as jnp


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


def normalise(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """uint8 `[B, H, W, C]` to float32, `(x - mean) / std` per channel, in units of 0 ... 255."""
    shape = (1, 1, 1, -1)
    return (images.astype(jnp.float32) - mean.reshape(shape)) / std.reshape(shape)
