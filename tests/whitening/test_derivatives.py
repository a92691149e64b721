"""Derivatives: exact against float64 finite differences, in every mode and transform."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from ltjax.whitening import inverse_sqrt, whiten
from tests.whitening.reference import features, pull, relative, weights_for

RNG = np.random.default_rng(0)
BATCHES = {
    "tall": RNG.normal(size=(12, 5)),
    "wide": RNG.normal(size=(5, 9)),
    "identity covariance": np.concatenate([np.eye(4), -np.eye(4)]),
    "duplicated channels": np.repeat(RNG.normal(size=(12, 3)), 2, axis=1),
    "wide, equal rows": np.repeat(RNG.normal(size=(3, 8)), 2, axis=0),
}
CASES = [
    *[("zca", name) for name in BATCHES],
    ("zca_svd", "tall"),
    ("zca_svd", "wide, equal rows"),
    ("newton_schulz", "identity covariance"),
    ("newton_schulz", "wide"),
    ("cholesky", "wide"),
    ("batch_norm", "tall"),
]


@pytest.mark.parametrize(("method", "name"), CASES)
def test_first_and_second_order_against_finite_differences(method, name):
    """At repeated eigenvalues too, where autodiff of `eigh` has no value at all."""
    with jax.enable_x64(True):
        x = jnp.asarray(BATCHES[name])
        weights, v = (jnp.asarray(RNG.normal(size=x.shape)) for _ in range(2))

        def loss(x):
            return jnp.sum(jnp.tanh(whiten(x, method=method, shrinkage=0.1)) * weights)

        gradient = jax.grad(loss)

        def forward_over_reverse(x):
            return jax.jvp(gradient, (x,), (v,))

        def forward_over_forward(x):
            def along(x):
                return jax.jvp(loss, (x,), (v,))[1]

            return jax.jvp(along, (x,), (v,))

        @jax.jit
        def everything(x):
            first, second = forward_over_reverse(x)
            reverse = jax.grad(lambda x: jnp.vdot(gradient(x), v))(x)
            return loss(x), first, second, reverse, *forward_over_forward(x)

        h = 1e-5
        value, first, second, reverse, along, twice = everything(x)
        above, below = everything(x + h * v), everything(x - h * v)
        slope = (above[0] - below[0]) / (2 * h)
        assert np.isfinite(value)
        assert abs(slope - jnp.vdot(first, v)) < 1e-6 * abs(slope)
        np.testing.assert_allclose(along, jnp.vdot(first, v), rtol=1e-9)
        assert relative(second, (above[1] - below[1]) / (2 * h)) < 1e-6
        assert relative(reverse, second) < 1e-9
        np.testing.assert_allclose(twice, jnp.vdot(second, v), rtol=1e-9)


def test_newton_schulz_differentiates_the_steps_it_took():
    """Three steps are far from the root; the derivative is that of the three steps."""
    with jax.enable_x64(True):
        x, v = (jnp.asarray(RNG.normal(size=(12, 5))) for _ in range(2))

        @jax.jit
        def loss(x):
            return jnp.sum(whiten(x, method="newton_schulz", shrinkage=0.1, steps=3) ** 3)

        h = 1e-5
        slope = (loss(x + h * v) - loss(x - h * v)) / (2 * h)
        along = jax.jit(lambda x: jnp.vdot(jax.grad(loss)(x), v))(x)
        assert abs(slope - along) < 1e-6 * abs(slope)


@pytest.mark.parametrize("method", ["eigh", "newton_schulz"])
def test_root_differentiates_matrix_and_ridge(method):
    with jax.enable_x64(True):
        s = jnp.asarray(np.diag([1.0, 1.0, 4.0, 0.0]))  # repeated and singular
        v = jnp.asarray(RNG.normal(size=(4, 4)))
        v = v @ v.T  # keeps the singular direction positive semi-definite
        weights = jnp.asarray(RNG.normal(size=(4, 4)))

        @jax.jit
        def loss(t):
            return jnp.sum(inverse_sqrt(s + t * v, 0.3 + t, method=method) * weights)

        h = 1e-5
        one_sided = (-3 * loss(0.0) + 4 * loss(h) - loss(2 * h)) / (2 * h)
        np.testing.assert_allclose(jax.jit(jax.grad(loss))(0.0), one_sided, rtol=1e-6)


def sharded(x, weights):
    mesh = Mesh(np.array(jax.devices()[:4]), ("d",))
    rows = PartitionSpec("d")

    def loss(x, w):
        local = jax.shard_map(
            lambda x: whiten(x, shrinkage=0.1, axis_name="d"),
            mesh=mesh,
            in_specs=rows,
            out_specs=rows,
        )(x)
        return jnp.sum(jnp.tanh(local) * w)

    return jax.jit(jax.grad(loss))(x, weights)


@pytest.mark.parametrize("shape", [(16, 4), (8, 12)])
def test_shard_map_and_remat(devices, shape):
    x = jnp.asarray(features(*shape))
    weights = jnp.asarray(weights_for(x))
    expected = pull(x, weights, shrinkage=0.1)[1]
    assert relative(sharded(x, weights), expected) < 2e-5

    def loss(x):
        return jnp.sum(jnp.tanh(jax.checkpoint(partial(whiten, shrinkage=0.1))(x)) * weights)

    assert relative(jax.jit(jax.grad(loss))(x), expected) < 2e-5


def test_hessian_vector_product_over_devices(devices):
    """Collectives inside the rule: second order over a mapped axis."""
    x, v = (jnp.asarray(features(16, 4, seed=s)) for s in (0, 1))
    weights = jnp.asarray(weights_for(x))

    def product(x, v, w, axis_name=None):
        def loss(x):
            return jnp.sum(jnp.tanh(whiten(x, shrinkage=0.1, axis_name=axis_name)) * w)

        return jax.jvp(jax.grad(loss), (x,), (v,))[1]

    split = [a.reshape(4, 4, 4) for a in (x, v, weights)]
    mapped = jax.pmap(partial(product, axis_name="d"), axis_name="d")(*split)
    assert relative(mapped.reshape(16, 4), jax.jit(product)(x, v, weights)) < 1e-4
