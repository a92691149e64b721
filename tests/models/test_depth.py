"""Stochastic depth: its draws, and networks against the same ones with zeroed branches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.kernels.build import load
from ltjax.models import ModelConfig, make_backbone
from ltjax.models.depth import DEPTH, branch_scale, drop_rates
from tests.helpers import initialized

LAST = 0.6
# The last layers of each block's branches, in the order of the branches.
RESNET = [[f"stage{stage}_block1", "norm2"] for stage in (1, 2, 3)]
VIT = [[f"block{b}", *last] for b in (0, 1) for last in (["attention", "out"], ["mlp", "fc2"])]
CASES = {"resnet8_cifar": (RESNET, 1), "vit_tiny": (VIT, 2)}


def test_rates_and_draws():
    np.testing.assert_allclose(drop_rates(0.3, 3), [0.1, 0.2, 0.3])
    keys = jax.random.split(jax.random.key(0), 4000)
    scales = np.asarray(branch_scale(keys, 0, 0.2))
    np.testing.assert_array_equal(np.unique(scales), np.float32([0, 1.25]))
    assert np.mean(scales == 0) == pytest.approx(0.2, abs=0.02)
    assert np.mean(scales) == pytest.approx(1, abs=0.03)
    other = np.asarray(branch_scale(keys, 1, 0.2))
    assert np.mean((scales == 0) & (other == 0)) == pytest.approx(0.04, abs=0.015)
    assert branch_scale(keys[:5], 3, 0.0).tolist() == [1.0] * 5


def pattern(name, key):
    """The scales of every branch of the network for one key."""
    branches, each = CASES[name]
    rates = np.repeat(drop_rates(LAST, len(branches) // each), each)
    return [float(branch_scale(key[None], i, rate)[0]) for i, rate in enumerate(rates)]


def multiplied(params, name, scales):
    """Parameters with which the branches are as many times as large."""
    params = jax.tree.map(lambda x: x, params)
    for path, scale in zip(CASES[name][0], scales, strict=True):
        layer = params
        for part in path[:-1]:
            layer = layer[part]
        layer[path[-1]] = jax.tree.map(lambda x, s=scale: x * np.float32(s), layer[path[-1]])
    return params


def stepped(network):
    """Its output in training and its gradients, as one program."""

    def loss(params, stats, images, keys):
        given = {} if keys is None else {DEPTH: {"keys": keys}}
        variables = {"params": params, "batch_stats": stats, **given}
        out, _ = network.apply(variables, images, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(out)), out

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_dropped_branches_are_zeroed_ones_and_evaluation_has_all(name):
    images = jax.random.normal(jax.random.key(1), (6, 8, 8, 3))
    plain = make_backbone(ModelConfig(name=name))
    drops = make_backbone(ModelConfig(name=name, stochastic_depth=LAST))
    variables = initialized(plain, images, train=False)
    params, stats = variables["params"], variables.get("batch_stats", {})
    every = jax.random.split(jax.random.key(0), 40)
    key = next(k for k in every if 0 < np.count_nonzero(pattern(name, k)) < len(CASES[name][0]))
    step, reference = stepped(drops), stepped(plain)
    (_, found), slopes = step(params, stats, images, jnp.tile(key[None], 6))
    changed = multiplied(params, name, pattern(name, key))
    (_, wanted), _ = reference(changed, stats, images, None)
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5)
    # A dropped branch has no gradient.
    dead = [path for path, s in zip(CASES[name][0], pattern(name, key), strict=True) if s == 0]
    for path in dead:
        layer = slopes
        for part in path:
            layer = layer[part]
        assert all(not np.any(leaf) for leaf in jax.tree.leaves(layer))
    (_, without), _ = step(params, stats, images, None)
    (_, as_it_is), _ = reference(params, stats, images, None)
    np.testing.assert_array_equal(without, as_it_is)
    keys = {DEPTH: {"keys": every[:6]}}
    np.testing.assert_array_equal(
        drops.apply({**variables, **keys}, images, train=False),
        plain.apply(variables, images, train=False),
    )


@pytest.mark.slow
@pytest.mark.skipif(load().path is None, reason=load().reason or "built")
def test_native_kernels_drop_the_same_branches():
    images = jax.random.normal(jax.random.key(1), (6, 8, 8, 3))
    config = ModelConfig(name="resnet8_cifar", stochastic_depth=LAST)
    plain, native = make_backbone(config), make_backbone(config, native=True)
    variables = initialized(plain, images, train=False)
    given = variables["params"], variables["batch_stats"], images
    keys = jax.random.split(jax.random.key(3), 6)
    (_, wanted), wanted_slopes = stepped(plain)(*given, keys)
    (_, found), slopes = stepped(native)(*given, keys)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)
    for one, other in zip(jax.tree.leaves(slopes), jax.tree.leaves(wanted_slopes), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-3 * np.abs(other).max() + 1e-6)
