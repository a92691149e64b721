"""ZCA-cor: standardized channels, then whitening."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.errors import InputError
from ltjax.whitening.linen import ChannelWhitening, StandardizedWhitening


def layer(ridge=1e-6, **settings):
    first = ChannelWhitening(method="batch_norm", shrinkage=ridge)
    return StandardizedWhitening(first, ChannelWhitening(shrinkage=ridge, **settings))


def data(seed=0, rows=400, size=5):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, size)) @ rng.normal(size=(size, size)) + rng.normal(size=size)
    return x * np.logspace(-0.5, 0.5, size)


def test_is_the_root_of_the_correlation():
    x = data()
    variables = layer().init(jax.random.key(0), jnp.asarray(x, jnp.float32), True)
    z, _ = layer().apply(variables, jnp.asarray(x, jnp.float32), False, mutable=["batch_stats"])
    standard = (x - x.mean(axis=0)) / x.std(axis=0)
    values, vectors = np.linalg.eigh(np.corrcoef(x, rowvar=False))
    expected = standard @ (vectors / np.sqrt(values)) @ vectors.T
    np.testing.assert_allclose(np.asarray(z), expected, atol=5e-3)


def test_its_ridge_does_not_depend_on_the_scale_of_a_channel():
    x = data().astype(np.float32)
    scaled = x * np.array([1, 3, 0.3, 2, 1], np.float32)
    both = layer()
    both = both.clone(whiten=both.whiten.clone(shrinkage=0.3))
    alone = ChannelWhitening(shrinkage=0.3)

    def change(run):
        variables = run.init(jax.random.key(0), x, True)
        a, b = (
            run.apply(variables, rows, False, mutable=["batch_stats"])[0] for rows in (x, scaled)
        )
        return float(jnp.abs(a - b).max())

    assert change(both) < 1e-2
    assert change(alone) > 0.1


def test_evaluation_is_training_on_the_same_batch():
    x = jnp.asarray(data(), jnp.float32)
    variables = layer().init(jax.random.key(0), x, True)
    z, updates = layer().apply(variables, x, False, mutable=["batch_stats"])
    np.testing.assert_allclose(layer().apply(updates, x, True), z, atol=1e-2)


def test_gradients_are_finite_at_a_constant_channel():
    x = jnp.asarray(data(), jnp.float32).at[:, 2].set(1.0)
    run = layer(ridge=1e-3)
    variables = run.init(jax.random.key(0), x, True)

    def loss(rows):
        return jnp.sum(run.apply(variables, rows, False, mutable=["batch_stats"])[0] ** 3)

    assert np.isfinite(np.asarray(jax.grad(loss)(x))).all()


def test_checks_both():
    with pytest.raises(InputError, match="groups"):
        layer(groups=2).check(5)
