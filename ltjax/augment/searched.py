"""AutoAugment's policies and TrivialAugment, on the device, with the operations of `policies`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.augment.policies import DRAWN, OPERATIONS, apply, each_image

# One of two operations: its name, its probability, and its magnitude from 0 to 9.
Step = tuple[str, float, int]
Policy = tuple[tuple[Step, Step], ...]

# Largest translation of AutoAugment, 150 of 331 pixels, in those of `policies`, a third.
_TRANSLATION = 450 / 331
# Magnitudes that TrivialAugment draws: 0, 1, ..., 30, of 30.
_STRENGTHS = 31

# Tables 7 and 9 of AutoAugment's appendix.
CIFAR: Policy = (
    (("invert", 0.1, 7), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("auto_contrast", 0.5, 8), ("equalize", 0.9, 2)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 7), ("auto_contrast", 0.4, 8)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 3)),
    (("equalize", 0.2, 0), ("auto_contrast", 0.6, 0)),
    (("equalize", 0.2, 8), ("equalize", 0.6, 4)),
    (("color", 0.9, 9), ("equalize", 0.6, 6)),
    (("auto_contrast", 0.8, 4), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("auto_contrast", 0.9, 3)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("auto_contrast", 0.9, 2), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 8), ("invert", 0.1, 3)),
    (("translate_y", 0.7, 9), ("auto_contrast", 0.9, 1)),
)
IMAGENET: Policy = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
    (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 9)),
    (("color", 0.4, 0), ("equalize", 0.6, 3)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
)


def auto_augment(images: jax.Array, keys: jax.Array, policy: Policy) -> jax.Array:
    """Applies to every image one of a policy's pairs of operations.

    Each of the two operations is applied with its probability, at its magnitude; those that have a
    direction take it at random.

    Args:
      images: uint8 `[B, H, W, C]`.
      keys: one PRNG key per image, `[B]`.
      policy: `CIFAR` or `IMAGENET`.

    Returns:
      uint8 `[B, H, W, C]`.

    Source: Cubuk et al., AutoAugment (CVPR 2019), https://arxiv.org/abs/1805.09501
    """
    which = np.array([[OPERATIONS.index(s[0]) for s in pair] for pair in policy], np.int32)
    chance = np.array([[s[1] for s in pair] for pair in policy], np.float32)
    strength = np.array([[_strength(s) for s in pair] for pair in policy], np.float32)

    def one(image: jax.Array, key: jax.Array) -> jax.Array:
        pair, *draws = jax.random.split(key, 3)
        row = jax.random.randint(pair, (), 0, len(policy))
        mine = [jnp.asarray(table)[row] for table in (which, chance, strength)]
        x = image.astype(jnp.float32)
        for draw, operation, probability, magnitude in zip(draws, *mine, strict=True):
            used, sign = jax.random.split(draw)
            signed = jnp.where(jax.random.bernoulli(sign), 1.0, -1.0) * magnitude
            changed = apply(x, operation, signed)
            x = jnp.where(jax.random.uniform(used) < probability, changed, x)
        return jnp.round(x).astype(jnp.uint8)

    return each_image(one, images, keys)


def trivial_augment(images: jax.Array, keys: jax.Array) -> jax.Array:
    """Applies to every image one random operation of a random strength.

    The strength is 0, 1/30, ..., or 1, in the ranges of `policies`.

    Args:
      images: uint8 `[B, H, W, C]`.
      keys: one PRNG key per image, `[B]`.

    Returns:
      uint8 `[B, H, W, C]`.

    Source: Mueller and Hutter, TrivialAugment (ICCV 2021), https://arxiv.org/abs/2103.10158
    """

    def one(image: jax.Array, key: jax.Array) -> jax.Array:
        choice, level, sign = jax.random.split(key, 3)
        strength = jax.random.randint(level, (), 0, _STRENGTHS).astype(jnp.float32)
        signed = jnp.where(jax.random.bernoulli(sign), 1.0, -1.0) * strength / (_STRENGTHS - 1)
        x = apply(image.astype(jnp.float32), jax.random.randint(choice, (), 0, len(DRAWN)), signed)
        return jnp.round(x).astype(jnp.uint8)

    return each_image(one, images, keys)


def _strength(step: Step) -> float:
    """The magnitude of a policy's operation as `policies.apply` takes it, from 0 up.

    >>> _strength(("rotate", 0.7, 9)), round(_strength(("translate_x", 0.3, 9)), 3)
    (1.0, 1.36)
    """
    name, _, magnitude = step
    return float(np.float32(magnitude / 9 * (_TRANSLATION if name[:9] == "translate" else 1.0)))


# Policies by the names of `augment.policy`; "none" applies none.
POLICIES: dict[str, Callable[[jax.Array, jax.Array], jax.Array] | None] = {
    "none": None,
    "trivial": trivial_augment,
    "autoaugment_cifar": lambda images, keys: auto_augment(images, keys, CIFAR),
    "autoaugment_imagenet": lambda images, keys: auto_augment(images, keys, IMAGENET),
}
