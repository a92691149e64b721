"""Whitening against a float64 NumPy reference, its gradient, and its edge cases."""

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.whitening import batch_moments, inverse_sqrt, shrink, whiten, whitening_matrix


def reference(x, shrinkage):
    """ZCA in float64, straight from the formula."""
    x = np.asarray(x, np.float64)
    xc = x - x.mean(axis=0)
    s = xc.T @ xc / len(x)
    s = (1 - shrinkage) * s + shrinkage * np.trace(s) / s.shape[0] * np.eye(s.shape[0])
    values, vectors = np.linalg.eigh(s)
    return xc @ (vectors / np.sqrt(values)) @ vectors.T


def features(n, d, seed=0, condition=100.0):
    """Rows whose covariance has eigenvalues from 1 down to 1 / condition, rotated and shifted."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(d, d)))
    scales = condition ** (-np.arange(d) / (2 * max(d - 1, 1)))
    return ((rng.normal(size=(n, d)) * scales) @ rotation + rng.normal(size=d)).astype(np.float32)


@pytest.mark.parametrize(("n", "d"), [(128, 64), (64, 16), (200, 3)])
def test_matches_float64_reference(n, d):
    x = features(n, d)
    z = jax.jit(lambda x: whiten(x, shrinkage=1e-3))(x)
    chex.assert_shape(z, (n, d))
    expected = reference(x, 1e-3)
    assert np.linalg.norm(z - expected) / np.linalg.norm(expected) < 1e-5


@pytest.mark.parametrize("condition", [1e3, 1e5])
def test_error_grows_no_faster_than_the_condition_number(condition):
    x = features(256, 32, condition=condition)
    z = whiten(jnp.asarray(x), shrinkage=1e-7)
    expected = reference(x, 1e-7)
    error = np.linalg.norm(z - expected) / np.linalg.norm(expected)
    assert error < np.finfo(np.float32).eps * condition


def test_whiteness():
    z = np.asarray(whiten(jnp.asarray(features(512, 64)), shrinkage=1e-7), np.float64)
    gram = z.T @ z / len(z)
    assert np.abs(gram - np.eye(64)).max() < 5e-5


@pytest.mark.parametrize(("n", "d", "shrinkage"), [(12, 5, 1e-2), (5, 9, 0.3)])
def test_gradient_against_float64_finite_differences(n, d, shrinkage):
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        x = jnp.asarray(rng.normal(size=(n, d)))
        weights = jnp.asarray(rng.normal(size=(n, d)))

        def loss(x):
            return jnp.sum(jnp.tanh(whiten(x, shrinkage=shrinkage)) * weights)

        gradient = jax.grad(loss)(x)
        direction = jnp.asarray(rng.normal(size=(n, d)))
        h = 1e-5
        finite = (loss(x + h * direction) - loss(x - h * direction)) / (2 * h)
        along = jnp.sum(gradient * direction)
        assert abs(finite - along) / abs(along) < 1e-6
        _, forward = jax.jvp(loss, (x,), (direction,))
        np.testing.assert_allclose(forward, along, rtol=1e-9)


def test_float32_gradient_close_to_float64():
    x = features(128, 64, seed=2)
    weights = np.random.default_rng(3).normal(size=x.shape).astype(np.float32)
    single = jax.grad(lambda x: jnp.sum(whiten(x, shrinkage=1e-3) * weights))(jnp.asarray(x))
    with jax.enable_x64(True):
        wide = jnp.asarray(weights, jnp.float64)
        double = jax.grad(lambda x: jnp.sum(whiten(x, shrinkage=1e-3) * wide))(
            jnp.asarray(x, jnp.float64)
        )
    single, double = np.asarray(single), np.asarray(double)
    assert np.linalg.norm(single - double) / np.linalg.norm(double) < 2e-5


@jax.jit
def cube(x):
    def loss(x):
        z = whiten(x, shrinkage=0.05)
        return jnp.sum(z**3), z

    (_, z), gradient = jax.value_and_grad(loss, has_aux=True)(x)
    return z, gradient


@hypothesis.given(
    n=st.sampled_from([1, 2, 5, 12]),
    d=st.sampled_from([1, 3, 6]),
    seed=st.integers(0, 99),
    scale=st.integers(-15, 15),
)
def test_finite_and_invariant_everywhere(n, d, seed, scale):
    x = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    z, gradient = cube(jnp.asarray(x * np.float32(10.0**scale)))
    assert np.isfinite(z).all()
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(z, reference(x, 0.05) if n > 1 else 0.0, atol=2e-4)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((6, 4)),
        np.ones((6, 4)) * 3.7,
        np.tile([[1e6, -2.0, 0.1, 5.0]], (6, 1)),
        np.eye(4)[[0, 1, 2, 3, 0, 1]],
        np.repeat(np.random.default_rng(0).normal(size=(6, 1)), 4, axis=1),
        np.random.default_rng(0).normal(size=(2, 4)),
    ],
    ids=["zeros", "equal", "equal large", "repeated eigenvalues", "rank one", "two rows"],
)
def test_degenerate_batches_have_finite_gradients(x):
    x = jnp.asarray(x, jnp.float32)
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(whiten(x) ** 2 * x))(x)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    if np.ptp(x, axis=0).max() == 0:
        np.testing.assert_array_equal(whiten(x), 0)


def test_autodiff_of_eigh_fails_where_the_closed_form_does_not():
    """The reason for the closed form: identity covariance, all eigenvalues equal."""

    def plain(s):
        values, vectors = jnp.linalg.eigh(s)
        return jnp.sum((vectors / jnp.sqrt(values)[None, :]) @ vectors.T * weights)

    weights = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)), jnp.float32)
    eye = jnp.eye(4)
    assert not np.isfinite(jax.grad(plain)(eye)).all()
    gradient = jax.grad(lambda s: jnp.sum(inverse_sqrt(s) * weights))(eye)
    np.testing.assert_allclose(gradient, -(weights + weights.T) / 4, atol=1e-6)


def test_gradient_is_orthogonal_to_shift_and_scale():
    x = jnp.asarray(features(64, 8, seed=5))
    weights = jnp.asarray(np.random.default_rng(6).normal(size=x.shape), jnp.float32)
    gradient = jax.grad(lambda x: jnp.sum(jnp.tanh(whiten(x)) * weights))(x)
    size = np.linalg.norm(gradient)
    assert np.abs(gradient.sum(axis=0)).max() < 1e-5 * size
    assert abs(np.sum(gradient * (x - x.mean(axis=0, keepdims=True)))) < 1e-5 * size


def test_equivariant_to_rotation():
    x = features(128, 8, seed=7)
    q, _ = np.linalg.qr(np.random.default_rng(8).normal(size=(8, 8)))
    q = q.astype(np.float32)
    np.testing.assert_allclose(whiten(jnp.asarray(x @ q)), whiten(jnp.asarray(x)) @ q, atol=1e-4)


def test_nan_propagates():
    x = features(8, 3)
    x[2, 1] = np.nan
    assert np.isnan(whiten(jnp.asarray(x))).any()


@pytest.mark.parametrize(("dtype", "gate"), [(jnp.float16, 1e-3), (jnp.bfloat16, 8e-3)])
def test_half_precision_keeps_dtype_and_wide_statistics(dtype, gate):
    x = jnp.asarray(features(128, 16)).astype(dtype)
    z = whiten(x)
    assert z.dtype == dtype
    wide = np.asarray(x.astype(jnp.float32))
    expected = reference(wide, 1e-2)
    error = np.linalg.norm(z.astype(jnp.float32) - expected) / np.linalg.norm(expected)
    assert error < gate


def test_masked_rows_do_not_matter():
    x = features(20, 4)
    padded = np.concatenate([x, np.full((5, 4), np.nan, np.float32)])
    mask = np.arange(25) < 20
    z = whiten(jnp.asarray(padded), mask=jnp.asarray(mask))
    np.testing.assert_allclose(z[:20], whiten(jnp.asarray(x)), atol=1e-6)
    np.testing.assert_array_equal(z[20:], 0)


def test_four_devices_agree_with_one(devices):
    x = features(128, 16, seed=9) + 100
    weights = np.random.default_rng(10).normal(size=x.shape).astype(np.float32)

    def loss(x, w, axis_name):
        return jnp.sum(jnp.tanh(whiten(x, axis_name=axis_name)) * w)

    def split(a):
        return a.reshape(4, 32, 16)

    # The devices' losses add up, as gradients do when they are summed over devices.
    gradient = jax.pmap(jax.grad(lambda x, w: loss(x, w, "d")), axis_name="d")(
        split(x), split(weights)
    )
    z = jax.pmap(lambda x: whiten(x, axis_name="d"), axis_name="d")(split(x))
    np.testing.assert_allclose(z.reshape(128, 16), whiten(jnp.asarray(x)), atol=1e-4)
    single = jax.grad(lambda x: loss(x, weights, None))(jnp.asarray(x))
    error = np.linalg.norm(gradient.reshape(128, 16) - single) / np.linalg.norm(single)
    assert error < 2e-4  # offset 100 costs digits of the input itself


def test_moments_at_a_large_offset(devices):
    x = features(64, 5) + np.float32(1000)
    one = batch_moments(jnp.asarray(x))
    many = jax.pmap(lambda x: batch_moments(x, axis_name="d"), axis_name="d")(x.reshape(4, 16, 5))
    expected = np.cov(x.astype(np.float64), rowvar=False, bias=True)
    np.testing.assert_allclose(one.covariance, expected, atol=2e-3)
    np.testing.assert_allclose(many.covariance[3], expected, atol=2e-3)
    np.testing.assert_array_equal(many.covariance[0], many.covariance[3])


def test_whitening_matrix_is_that_of_whiten():
    x = features(256, 6)
    moments = batch_moments(jnp.asarray(x))
    z = (x - moments.mean[None, :]) @ whitening_matrix(moments.covariance)
    np.testing.assert_allclose(z, whiten(jnp.asarray(x)), atol=5e-5)
    np.testing.assert_array_equal(whitening_matrix(jnp.zeros((3, 3))), 0)


def test_shrink_keeps_the_trace():
    s = np.diag([1.0, 2.0, 6.0]).astype(np.float32)
    shrunk = shrink(jnp.asarray(s), 0.25)
    np.testing.assert_allclose(np.trace(shrunk), 9.0, rtol=1e-6)
    np.testing.assert_allclose(np.diag(shrunk), [1.5, 2.25, 5.25], rtol=1e-6)
