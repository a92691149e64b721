"""The Flax shell: running statistics, train against evaluation, one compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.whitening import ChannelWhitening, batch_moments


def batches(count, n=64, d=6):
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(d, d))
    return [jnp.asarray(rng.normal(size=(n, d)) @ mix + 2, jnp.float32) for _ in range(count)]


def train(layer, data):
    variables = layer.init(jax.random.key(0), data[0], use_running_average=False)
    for x in data:
        out, variables = layer.apply(
            variables, x, use_running_average=False, mutable=["batch_stats"]
        )
    return out, variables


def test_first_step_is_the_first_batch():
    (x,) = batches(1)
    _, variables = train(ChannelWhitening(), [x])
    moments = batch_moments(x)
    stats = variables["batch_stats"]
    np.testing.assert_allclose(stats["mean"], moments.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(stats["covariance"], moments.covariance, rtol=1e-5, atol=1e-5)


def test_one_repeated_batch_evaluates_as_it_trained():
    (x,) = batches(1)
    layer = ChannelWhitening(momentum=0.5)
    out, variables = train(layer, [x] * 4)
    evaluated = layer.apply(variables, x, use_running_average=True)
    np.testing.assert_allclose(evaluated, out, atol=5e-5)


def test_running_statistics_are_the_corrected_average():
    data = batches(5)
    _, variables = train(ChannelWhitening(momentum=0.8), data)
    weights = 0.8 ** np.arange(4, -1, -1)
    weights /= weights.sum()
    covariances = np.stack([batch_moments(x).covariance for x in data])
    expected = np.einsum("t,tij->ij", weights, covariances)
    np.testing.assert_allclose(variables["batch_stats"]["covariance"], expected, rtol=1e-4)


def test_evaluation_changes_nothing_and_needs_the_choice():
    (x,) = batches(1)
    layer = ChannelWhitening()
    variables = layer.init(jax.random.key(0), x, use_running_average=True)
    _, after = layer.apply(variables, x, use_running_average=True, mutable=["batch_stats"])
    jax.tree.map(np.testing.assert_array_equal, after, {"batch_stats": variables["batch_stats"]})
    with pytest.raises(ValueError, match="use_running_average"):
        layer.apply(variables, x)


def test_gradient_through_training_is_finite_for_small_batches():
    (x,) = batches(1, n=3)
    layer = ChannelWhitening()
    variables = layer.init(jax.random.key(0), x, use_running_average=False)

    def loss(x):
        out, _ = layer.apply(variables, x, use_running_average=False, mutable=["batch_stats"])
        return jnp.sum(out**3)

    assert np.isfinite(jax.grad(loss)(x)).all()


def test_dtype():
    (x,) = batches(1)
    layer = ChannelWhitening(dtype=jnp.bfloat16)
    out, variables = train(layer, [x])
    assert out.dtype == jnp.bfloat16
    assert variables["batch_stats"]["covariance"].dtype == jnp.float32
