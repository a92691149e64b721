"""Mixup, remix and CutMix: shares, partners, limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.augment.mixing import (
    MIXINGS,
    cutmix,
    draw_boxes,
    draw_shares,
    make_mixing,
    mix,
    mixup,
    partners,
    remix,
)

COUNTS = jnp.array([400, 90, 20, 5])
MIXUP, REMIX = mixup(), remix()


def batch(size=16):
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(size, 4, 4, 1)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 4, size))
    order = partners(jax.random.key(1), jnp.zeros(size, bool))
    return (images, images[order]), (labels, labels[order])


@pytest.mark.parametrize("mixing", [MIXUP, REMIX], ids=["mixup", "remix"])
def test_share_1_is_no_mixing(mixing):
    images, labels = batch()
    mixed, targets = mix(mixing, mixing.init(COUNTS), images, labels, jnp.ones(16))
    np.testing.assert_array_equal(mixed, images[0])
    np.testing.assert_array_equal(targets, jax.nn.one_hot(labels[0], 4))


@pytest.mark.parametrize("mixing", [MIXUP, REMIX], ids=["mixup", "remix"])
def test_mixes_against_numpy(mixing):
    images, labels = batch()
    lam = np.random.default_rng(2).uniform(size=16).astype(np.float32)
    mixed, targets = jax.jit(lambda *args: mix(mixing, *args))(
        mixing.init(COUNTS), images, labels, lam
    )
    for i in range(16):
        own, other = (int(y[i]) for y in labels)
        expected = lam[i] * np.asarray(images[0][i]) + (1 - lam[i]) * np.asarray(images[1][i])
        np.testing.assert_allclose(mixed[i], expected, atol=1e-6)
        share = lam[i]
        if mixing is REMIX:
            ratio = float(COUNTS[own] / COUNTS[other])
            if ratio >= 3 and lam[i] < 0.5:
                share = 0.0
            elif ratio <= 1 / 3 and 1 - lam[i] < 0.5:
                share = 1.0
        row = np.zeros(4)
        row[own] += share
        row[other] += 1 - share
        np.testing.assert_allclose(targets[i], row, atol=1e-6)
    np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("mixing", [MIXUP, REMIX], ids=["mixup", "remix"])
def test_each_half_of_a_target_has_its_own_weight(mixing):
    images, labels = batch()
    weights = tuple(jnp.asarray(y, jnp.float32) + 1 for y in labels)
    lam = np.random.default_rng(2).uniform(size=16).astype(np.float32)
    state = mixing.init(COUNTS)
    _, plain = mix(mixing, state, images, labels, lam)
    _, weighted = mix(mixing, state, images, labels, lam, weights=weights)
    # The weight is a function of the class here, so that it can be told from the target.
    np.testing.assert_allclose(weighted, np.asarray(plain) * np.arange(1, 5), rtol=1e-6)


def test_remix_gives_the_rare_class_its_label():
    state = remix().init(COUNTS)
    y, other = jnp.array([3, 3, 0, 0, 1, 2]), jnp.array([0, 0, 3, 3, 0, 1])
    lam = jnp.array([0.6, 0.4, 0.4, 0.6, 0.9, 0.7])
    share = remix().label_share(lam, y, other, state)
    np.testing.assert_allclose(share, [1, 0.4, 0, 0.6, 1, 1], atol=1e-6)


def test_partners_keep_the_kinds_of_bet_apart_and_change():
    flags = jnp.arange(64) >= 40
    first, second = (partners(jax.random.key(seed), flags) for seed in (0, 1))
    for order in (first, second):
        np.testing.assert_array_equal(np.sort(order), np.arange(64))
        np.testing.assert_array_equal(flags[order], flags)
    assert (first != second).sum() > 50


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_follow_the_beta_distribution(alpha):
    lam = np.asarray(draw_shares(jax.random.split(jax.random.key(0), 4000), alpha))
    assert ((lam >= 0) & (lam <= 1)).all()
    assert lam.mean() == pytest.approx(0.5, abs=0.03)
    assert lam.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.01)


def test_cutmix_pastes_a_rectangle_and_counts_its_pixels():
    lam = jnp.linspace(0, 1, 200)
    own, share = jax.jit(lambda k, m: draw_boxes(k, m, 12, 8))(
        jax.random.split(jax.random.key(5), 200), lam
    )
    holes = np.asarray(own)[..., 0] == 0
    np.testing.assert_allclose(share, 1 - holes.mean(axis=(1, 2)), atol=1e-6)
    for hole, wanted in zip(holes, np.asarray(lam), strict=True):
        rows, columns = hole.any(axis=1), hole.any(axis=0)
        assert hole.sum() == rows.sum() * columns.sum()
        # Cut at the border, and rounded down to even sides.
        assert rows.sum() <= 12 * np.sqrt(1 - wanted)
        assert columns.sum() <= 8 * np.sqrt(1 - wanted)
    whole = holes[0]
    assert whole.any()
    assert not holes[-1].any()

    images = jnp.zeros((200, 12, 8, 1)), jnp.ones((200, 12, 8, 1))
    labels = jnp.zeros(200, int), jnp.full(200, 2)
    mixed, targets = mix(cutmix(), jnp.ones(3), images, labels, share, own)
    np.testing.assert_array_equal(np.asarray(mixed)[..., 0] == 1, holes)
    np.testing.assert_allclose(targets[:, 2], holes.mean(axis=(1, 2)), atol=1e-6)
    np.testing.assert_allclose(np.asarray(targets).sum(axis=1), 1, atol=1e-6)


BAD = {
    "train.mixing = 'x'": lambda: make_mixing("x"),
    "train.mixing_alpha = 0": lambda: make_mixing("mixup", alpha=0.0),
    "train.remix_kappa = 0.5": lambda: make_mixing("remix", remix_kappa=0.5),
    "train.remix_tau = 1.5": lambda: make_mixing("remix", remix_tau=1.5),
    "alpha = -1": lambda: mixup(-1),
    "kappa = 0.5": lambda: remix(kappa=0.5),
    "tau = nan": lambda: remix(tau=float("nan")),
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input(words):
    with pytest.raises(ValueError, match=words):
        BAD[words]()


def test_every_name_builds():
    made = {name: make_mixing(name, alpha=0.4) for name in MIXINGS}
    assert made.pop("none") is None
    assert {mixing.alpha for mixing in made.values()} == {0.4}
