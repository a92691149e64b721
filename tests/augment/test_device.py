"""Augmentation on the device: what each does, and that it follows image and key alone."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.augment.device import Augment, augment, cutout, random_erasing, random_flip
from ltjax.augment.options import POLICY_NAMES, AugmentConfig
from ltjax.augment.policies import DRAWN, OPERATIONS, apply, each_image, rand_augment
from ltjax.augment.searched import (
    CIFAR,
    IMAGENET,
    POLICIES,
    _strength,
    auto_augment,
    trivial_augment,
)
from ltjax.config.combinations import _OFF_FOR_FEATURES
from tests.data.pictures import picture

IMAGES = jnp.asarray(np.stack([picture(16, 16, seed=i) for i in range(8)]))
KEYS = jax.random.split(jax.random.key(0), 8)


def test_flip_mirrors_about_half():
    keys = jax.random.split(jax.random.key(1), 400)
    images = jnp.repeat(IMAGES[:1], 400, axis=0)
    out = np.asarray(jax.jit(random_flip)(images, keys))
    original, mirrored = np.asarray(IMAGES[0]), np.asarray(IMAGES[0][:, ::-1])
    flipped = (out == mirrored).all(axis=(1, 2, 3))
    assert (flipped | (out == original).all(axis=(1, 2, 3))).all()
    assert 150 < flipped.sum() < 250


def test_cutout_erases_one_square():
    images = jnp.full((200, 16, 16, 3), 9, jnp.uint8)
    out = np.asarray(cutout(images, jax.random.split(jax.random.key(2), 200), 6))
    holes = (out == 0).all(axis=3)
    sizes = holes.sum(axis=(1, 2))
    assert sizes.max() == 36
    assert sizes.min() >= 9  # its center is inside
    for hole in holes:
        rows, columns = hole.any(axis=1), hole.any(axis=0)
        assert hole.sum() == rows.sum() * columns.sum()


def test_follows_image_and_key_alone():
    settings = Augment(max_shift=2, flip=True, rand_ops=2, cutout=4)
    run = jax.jit(lambda images, keys: augment(images, keys, settings))
    whole = run(IMAGES, KEYS)
    assert whole.dtype == jnp.uint8
    order = np.array([3, 1, 0, 2, 7, 6, 5, 4])
    np.testing.assert_array_equal(run(IMAGES[order], KEYS[order]), whole[order])


def test_nothing_asked_nothing_done():
    assert augment(IMAGES, KEYS, Augment()) is IMAGES


one = jax.jit(apply)


def by_name(name, strength, image=None):
    image = np.asarray(IMAGES[0]) if image is None else image
    which = jnp.asarray(OPERATIONS.index(name))
    return np.asarray(one(jnp.asarray(image, jnp.float32), which, jnp.float32(strength)))


def test_operations_against_their_definitions():
    image = np.asarray(IMAGES[0]).astype(np.float32)
    np.testing.assert_array_equal(by_name("identity", 0.9), image)
    np.testing.assert_allclose(by_name("brightness", -1.0), image * 0.1, rtol=1e-5)
    np.testing.assert_array_equal(by_name("solarize", 1.0), 255 - image)
    np.testing.assert_array_equal(by_name("invert", 0.3), 255 - image)
    np.testing.assert_array_equal(by_name("posterize", 1.0), image // 16 * 16)
    gray = (image @ np.array([0.299, 0.587, 0.114]))[..., None]
    np.testing.assert_allclose(by_name("color", -1.0), gray + 0.1 * (image - gray), atol=1e-3)
    np.testing.assert_allclose(
        by_name("contrast", -1.0), gray.mean() + 0.1 * (image - gray.mean()), atol=1e-3
    )
    stretched = by_name("auto_contrast", 1.0)
    assert stretched.min(axis=(0, 1)).tolist() == [0, 0, 0]
    np.testing.assert_allclose(stretched.max(axis=(0, 1)), 255)


def test_equalize_as_pillow():
    from PIL import Image, ImageOps

    image = np.asarray(picture(32, 32, seed=5))
    expected = np.asarray(ImageOps.equalize(Image.fromarray(image)))
    np.testing.assert_array_equal(by_name("equalize", 1.0, image), expected)


@pytest.mark.parametrize("name", DRAWN[DRAWN.index("rotate") :])
def test_geometry(name):
    image = np.asarray(IMAGES[0]).astype(np.float32)
    np.testing.assert_allclose(by_name(name, 0.0), image, atol=1e-3)
    assert np.abs(by_name(name, 0.9) - image).mean() > 1


def test_translation_by_a_third():
    moved = by_name("translate_x", 0.9375)  # 5 pixels of 16
    np.testing.assert_allclose(moved[:, :11], np.asarray(IMAGES[0])[:, 5:].astype(float), atol=1e-2)
    np.testing.assert_allclose(moved[:, 11:], 128)


def test_all_operations_are_drawn():
    keys = jax.random.split(jax.random.key(3), 300)
    images = jnp.repeat(IMAGES[:1], 300, axis=0)
    out = np.asarray(jax.jit(lambda i, k: rand_augment(i, k, ops=1, magnitude=9.0))(images, keys))
    assert len({x.tobytes() for x in out}) >= 20  # most operations have two directions


def test_images_in_turn_are_those_at_once():
    def one(image, key):
        return apply(
            image.astype(jnp.float32), jax.random.randint(key, (), 0, len(OPERATIONS)), 0.7
        )

    in_turn = jax.jit(lambda images, keys: each_image(one, images, keys))
    found = in_turn(IMAGES, KEYS)
    at_once = jax.jit(jax.vmap(one))
    np.testing.assert_allclose(found, at_once(IMAGES, KEYS), atol=1e-3)
    # Of two seeds, too, and only on CPU.
    seeds = jax.jit(jax.vmap(in_turn))
    both = seeds(jnp.stack([IMAGES, IMAGES[::-1]]), jnp.stack([KEYS, KEYS[::-1]]))
    np.testing.assert_array_equal(both, jnp.stack([found, found[::-1]]))
    traced = in_turn.trace(IMAGES, KEYS)
    loops = {
        platform: "stablehlo.while" in traced.lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "cuda", "tpu")
    }
    assert loops == {"cpu": True, "cuda": False, "tpu": False}


def test_policies_name_operations():
    assert set(POLICIES) == set(POLICY_NAMES)
    for policy in (CIFAR, IMAGENET):
        assert len(policy) == 25
        for name, chance, magnitude in (step for pair in policy for step in pair):
            assert name in OPERATIONS
            assert 0 <= chance <= 1
            assert 0 <= magnitude <= 9


GOLDEN = np.load(Path(__file__).parent / "golden" / "operations.npz")
# Tables of 256 entries and nothing else, which are the same in integers.
EXACT = {"equalize", "solarize", "posterize", "invert"}


def test_operations_of_policies_by_numbers_of_torchvision():
    """Within one of 256 levels, by which Pillow rounds down or interpolates in fixed point."""
    cases = [key.split("/") for key in GOLDEN if key.split("/")[0] in OPERATIONS]
    assert {name for name, _, _ in cases} == set(OPERATIONS) - {"identity"}
    for name, magnitude, sign in cases:
        # Both directions are drawn; those of translations go by other names.
        direction = -int(sign) if name.startswith("translate") else int(sign)
        strength = direction * _strength((name, 1.0, int(magnitude)))
        found = np.round(by_name(name, strength, GOLDEN["image"])).astype(int)
        wanted = GOLDEN[f"{name}/{magnitude}/{sign}"].astype(int)
        far = np.abs(found - wanted).max()
        assert far <= (0 if name in EXACT else 1), (name, magnitude, sign, far)


@pytest.mark.parametrize(("key", "policy"), [("cifar", CIFAR), ("imagenet", IMAGENET)])
def test_policies_are_those_of_torchvision(key, policy):
    names, chances, magnitudes = zip(*(step for pair in policy for step in pair), strict=True)
    assert list(names) == GOLDEN[f"{key}/names"].tolist()
    assert list(chances) == GOLDEN[f"{key}/chances"].tolist()
    # torchvision leaves out the magnitudes of operations that have none.
    wanted = GOLDEN[f"{key}/magnitudes"]
    np.testing.assert_array_equal(np.where(wanted < 0, -1, magnitudes), wanted)


def test_a_pair_of_a_policy_is_applied_in_order_with_its_probabilities():
    def run(*steps):
        return np.asarray(jax.jit(lambda i, k: auto_augment(i, k, (steps,)))(IMAGES, KEYS))

    images = np.asarray(IMAGES)
    dark = np.asarray([by_name("solarize", 8 / 9, image) for image in images])
    both = np.asarray([by_name("posterize", 1.0, 255 - image) for image in images])
    inverted = run(("invert", 1.0, 3), ("posterize", 1.0, 9))
    np.testing.assert_array_equal(inverted, both)
    some = run(("solarize", 0.5, 8), ("invert", 0.0, 9))
    applied = (some == dark).all(axis=(1, 2, 3))
    assert (applied | (some == images).all(axis=(1, 2, 3))).all()
    assert 0 < applied.sum() < len(images)


def test_trivial_augment_draws_operations_and_strengths():
    keys = jax.random.split(jax.random.key(3), 300)
    out = np.asarray(jax.jit(trivial_augment)(jnp.repeat(IMAGES[:1], 300, axis=0), keys))
    assert len({x.tobytes() for x in out}) > 100  # 14 operations, 31 strengths, two directions
    same = (out == np.asarray(IMAGES[0])).all(axis=(1, 2, 3)).mean()
    assert 1 / 14 < same < 0.3  # the identity, and operations of no strength


def test_random_erasing_fills_one_rectangle_of_some_images():
    images = jnp.full((300, 12, 20, 3), 9, jnp.uint8)
    keys = jax.random.split(jax.random.key(4), 300)
    out = np.asarray(jax.jit(lambda i, k: random_erasing(i, k, 0.7))(images, keys))
    holes = (out != 9).any(axis=3)  # a random pixel is (9, 9, 9) once in 256^3
    used = holes.any(axis=(1, 2))
    assert used.mean() == pytest.approx(0.7, abs=0.08)
    sizes = holes.sum(axis=(1, 2))[used] / 240
    assert sizes.max() < 0.45  # rounded to whole pixels
    assert sizes.mean() == pytest.approx(0.21, abs=0.03)
    for hole in holes[used]:
        assert hole.sum() == hole.any(axis=1).sum() * hole.any(axis=0).sum()


def test_every_augmentation_changes_images_and_is_none_for_features():
    names = {f"augment.{field.name}" for field in dataclasses.fields(AugmentConfig)}
    assert set(_OFF_FOR_FEATURES) == names - {"augment.rand_magnitude"}
    off = {name.removeprefix("augment."): value for name, value in _OFF_FOR_FEATURES.items()}
    assert AugmentConfig(**off).none
    for name, value in off.items():
        changed = "trivial" if name == "policy" else type(value)(0.5 if value == 1 else 1)
        assert not AugmentConfig(**{**off, name: changed}).none, name
