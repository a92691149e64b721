"""Products in turns of a loop, which TPU's route takes, are the whole products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from ltjax.whitening import methods, whiten
from ltjax.whitening.moments import gram, matmul
from tests.whitening.reference import double, features, relative, weights_for, whitened


@pytest.fixture
def tpu(monkeypatch):
    """Takes TPU's route for every size, in blocks of as many rows as it is given."""
    monkeypatch.setattr(
        methods, "_by_platform", lambda size, decomposed, by_products: by_products()
    )
    return lambda block: monkeypatch.setattr(methods, "TPU_BLOCK", block)


def loss_of(weights, **options):
    return lambda x: jnp.sum(jnp.tanh(whiten(x, **options)) * weights)


@pytest.mark.parametrize("rows", [8, 37, 48])
def test_products(rows):
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(rows, 5)), rng.normal(size=(5, 7))
    product = jax.jit(lambda a, b: (matmul(a, b, block=8), gram(a, block=8)))
    found = product(jnp.asarray(left, jnp.float32), jnp.asarray(right, jnp.float32))
    assert relative(found[0], left @ right) < 1e-6
    assert relative(found[1], left.T @ left) < 1e-6


def test_derivatives_are_those_of_whole_products(tpu):
    """Forward, reverse and second order, in float64."""

    def everything(x, v):
        loss = loss_of(v)
        gradient = jax.grad(loss)
        along = jax.jvp(loss, (x,), (v,))[1]
        reverse = jax.grad(lambda x: jnp.vdot(gradient(x), v))(x)
        return gradient(x), along, jax.jvp(gradient, (x,), (v,))[1], reverse

    with jax.enable_x64(True):
        x, v = (jnp.asarray(features(6, 21, seed=seed), jnp.float64) for seed in (0, 1))
        found = []
        for block in (4, None):
            tpu(block)
            found.append(jax.jit(lambda x, v: everything(x, v))(x, v))
        for blocks, whole in zip(*found, strict=True):
            assert relative(blocks, whole) < 1e-9


@pytest.mark.parametrize(
    ("shape", "value", "slope"), [((128, 64), 1e-5, 2e-5), ((48, 128), 1e-4, 3e-4)]
)
def test_float32_against_float64(tpu, shape, value, slope):
    x = features(*shape)
    weights = weights_for(x)
    _, gradient64 = double(x, weights, method="zca", shrinkage=1e-3)
    tpu(16)

    @jax.jit
    def pull(x):
        z = whiten(x, shrinkage=1e-3)
        return z, jax.grad(loss_of(weights, shrinkage=1e-3))(x)

    z, gradient = pull(jnp.asarray(x))
    assert relative(z, whitened(x, 1e-3)) < value
    assert relative(gradient, gradient64) < slope


@pytest.mark.parametrize("shape", [(64, 8), (16, 32)])
def test_four_devices_are_one(tpu, devices, shape):
    """Under `shard_map`, which checks what may differ between devices."""
    tpu(4)
    x = jnp.asarray(features(*shape, seed=9))
    weights = jnp.asarray(weights_for(x))

    def gradient(x, weights, axis_name=None):
        return jax.grad(loss_of(weights, axis_name=axis_name))(x)

    each = PartitionSpec("d")
    mapped = jax.shard_map(
        lambda x, w: gradient(x, w, "d"),
        mesh=Mesh(np.array(devices), ("d",)),
        in_specs=(each, each),
        out_specs=each,
    )
    assert relative(jax.jit(mapped)(x, weights), jax.jit(gradient)(x, weights)) < 2e-5
