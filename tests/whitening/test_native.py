"""Whitening with the native eigendecomposition, within the same gates as without."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.kernels.build import load
from ltjax.kernels.eigh import SMALLEST
from ltjax.whitening import nnx, whiten
from ltjax.whitening.linen import ChannelWhitening
from tests.whitening.reference import double, features, pull, relative, weights_for

pytestmark = pytest.mark.skipif(load().path is None, reason=load().reason or "built")


@pytest.mark.parametrize(
    ("n", "d", "bounds"),
    [(2 * SMALLEST, SMALLEST, (1e-5, 2e-5)), (SMALLEST, 3 * SMALLEST, (1e-4, 3e-4))],
)
def test_float32_against_float64(n, d, bounds):
    """The gates of `test_gates.py`; that it is another program than XLA's shows in the bits."""
    x = features(n, d)
    weights = weights_for(x)
    args = jnp.asarray(x), jnp.asarray(weights)
    found = pull(*args, shrinkage=1e-3, native=True)
    for actual, expected, bound in zip(
        found, double(x, weights, shrinkage=1e-3), bounds, strict=True
    ):
        assert relative(actual, expected) < bound
    plain = pull(*args, shrinkage=1e-3)
    assert not np.array_equal(found[0], plain[0])


def test_small_matrices_are_decomposed_by_xla():
    args = jnp.asarray(features(64, 8)), jnp.asarray(weights_for(np.ones((64, 8))))
    for native, plain in zip(pull(*args, native=True), pull(*args), strict=True):
        np.testing.assert_array_equal(native, plain)


def test_devices_groups_and_layers(devices):
    x = jnp.asarray(features(2 * SMALLEST, SMALLEST))
    expected = whiten(x, native=True)
    run = jax.pmap(partial(whiten, axis_name="d", native=True), axis_name="d")
    assert relative(run(x.reshape(4, -1, SMALLEST)).reshape(x.shape), expected) < 1e-5
    mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.PartitionSpec("d")
    local = partial(whiten, axis_name="d", native=True)
    for wide in (x, jnp.tile(x[:SMALLEST], (1, 2))):  # both sides
        sharded = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=rows, out_specs=rows))
        assert relative(sharded(wide), whiten(wide, native=True)) < 1e-4
    twice = jnp.concatenate([x, 2 * x], axis=1)
    assert relative(whiten(twice, groups=2, native=True)[:, SMALLEST:], expected) < 1e-5
    layer = ChannelWhitening(native=True)
    variables = layer.init(jax.random.key(0), x, use_running_average=True)
    z, _ = layer.apply(variables, x, use_running_average=False, mutable=["batch_stats"])
    np.testing.assert_array_equal(z, nnx.ChannelWhitening(SMALLEST, native=True)(x))
    assert relative(z, expected) < 1e-6
