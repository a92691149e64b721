"""Each method against its definition; groups, Newton-Schulz steps, shrinkage rules, moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from ltjax.whitening import (
    batch_moments,
    inverse_sqrt,
    shrink,
    whiten,
    whiten_batch,
    whitening_matrix,
)
from tests.whitening.reference import features, forward, relative, whitened

WHITENING = ("zca", "zca_svd", "newton_schulz", "cholesky", "batch_norm")


@pytest.mark.parametrize("method", WHITENING)
@pytest.mark.parametrize("n", [64, 8])
def test_methods_and_groups_against_float64(method, n):
    x = features(n, 16)
    z = forward(jnp.asarray(x), method=method, shrinkage=0.1, groups=2)
    expected = np.concatenate([whitened(p, 0.1, method) for p in np.split(x, 2, axis=1)], axis=1)
    assert relative(z, expected) < 1e-5


def test_none_is_the_input():
    x = jnp.asarray(features(6, 4))
    np.testing.assert_array_equal(whiten(x, method="none"), x)


def test_cholesky_is_white_but_not_zca():
    x = jnp.asarray(features(256, 8))
    z = np.asarray(forward(x, method="cholesky", shrinkage=1e-4))
    np.testing.assert_allclose(z.T @ z / 256, np.eye(8), atol=0.02)
    assert relative(z, forward(x, shrinkage=1e-4)) > 0.1


def test_cholesky_survives_a_singular_covariance_without_a_ridge_to_speak_of():
    z = forward(jnp.asarray(features(5, 32)), method="cholesky", shrinkage=1e-9)
    assert np.isfinite(z).all()


@pytest.mark.parametrize(("condition", "steps"), [(2e2, 10), (7e3, 15), (7e5, 20)])
def test_newton_schulz_steps(condition, steps):
    """The steps that the documentation names for 1e-4, in float64 so that they decide."""
    with jax.enable_x64(True):
        q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(32, 32)))
        values = np.geomspace(1, 1 / condition, 32)
        s = jnp.asarray((q * values) @ q.T)

        @jax.jit
        def defects(s):
            roots = [inverse_sqrt(s, method="newton_schulz", steps=k) for k in (steps, None)]
            return [jnp.abs(r @ s @ r - jnp.eye(32)).max() for r in roots]

        chosen, converged = defects(s)
        assert chosen < 1e-4
        assert converged < 1e-9


def test_newton_schulz_in_float32_stays_finite_where_it_cannot_converge():
    s = jnp.asarray(np.diag(np.geomspace(1, 1e-12, 16)), jnp.float32)
    assert np.isfinite(jax.jit(lambda s: inverse_sqrt(s, method="newton_schulz"))(s)).all()


def test_moments_at_a_large_offset(devices):
    x = features(64, 5) + np.float32(1000)
    one = batch_moments(jnp.asarray(x))
    many = jax.pmap(lambda x: batch_moments(x, axis_name="d"), axis_name="d")(x.reshape(4, 16, 5))
    expected = np.cov(x.astype(np.float64), rowvar=False, bias=True)
    np.testing.assert_allclose(one.covariance, expected, atol=2e-3)
    np.testing.assert_allclose(many.covariance[3], expected, atol=2e-3)
    np.testing.assert_array_equal(many.covariance[0], many.covariance[3])


@pytest.mark.parametrize(("method", "groups"), [("zca", 1), ("cholesky", 3), ("batch_norm", 3)])
def test_matrix_and_moments_are_those_of_whiten(method, groups):
    x = jnp.asarray(features(256, 6))

    @jax.jit
    def run(x):
        out = whiten_batch(x, method=method, groups=groups, shrinkage=0.1)
        moments = batch_moments(x, groups=groups, diagonal=method == "batch_norm")
        return out, moments, whitening_matrix(out.moments.covariance, method=method, shrinkage=0.1)

    out, moments, matrix = run(x)
    np.testing.assert_allclose(out.moments.mean, moments.mean, atol=1e-6)
    np.testing.assert_allclose(
        np.ravel(out.moments.covariance), np.ravel(moments.covariance), atol=1e-5
    )
    dense = np.diag(matrix) if matrix.ndim == 1 else np.asarray(matrix)
    if dense.ndim == 3:
        dense = np.block(
            [[dense[i] if i == j else np.zeros((2, 2)) for j in range(3)] for i in range(3)]
        )
    np.testing.assert_allclose((x - moments.mean[None, :]) @ dense, out.output, atol=5e-5)


def test_shrink_keeps_the_trace():
    s = np.diag([1.0, 2.0, 6.0]).astype(np.float32)
    shrunk = shrink(jnp.asarray(s), 0.25)
    np.testing.assert_allclose(np.trace(shrunk), 9.0, rtol=1e-6)
    np.testing.assert_allclose(np.diag(shrunk), [1.5, 2.25, 5.25], rtol=1e-6)


def oas_reference(x):
    n, d = x.shape
    s = np.cov(x, rowvar=False, bias=True)
    square, trace = np.sum(s * s), np.trace(s)
    top = (1 - 2 / d) * square + trace**2
    return min(1, top / ((n + 1 - 2 / d) * (square - trace**2 / d)))


@pytest.mark.parametrize(("n", "d"), [(64, 8), (10, 24)])
def test_rules(n, d):
    x = features(n, d)
    expected = {
        "auto": d / (d + 2 * n),
        "ledoit_wolf": ledoit_wolf(x.astype(np.float64))[1],
        "oas": oas_reference(x.astype(np.float64)),
    }

    @jax.jit
    def run(x):
        return {rule: whiten_batch(x, shrinkage=rule) for rule in expected}

    for rule, out in run(jnp.asarray(x)).items():
        np.testing.assert_allclose(out.shrinkage, expected[rule], rtol=1e-4, err_msg=rule)
        assert relative(out.output, whitened(x, expected[rule])) < 1e-4


def test_rules_over_devices_and_masks(devices):
    x = features(32, 6)
    mask = np.arange(32) % 4 != 3

    def run(x, mask, axis_name=None):
        return [
            whiten_batch(x, shrinkage=rule, mask=mask, axis_name=axis_name).shrinkage
            for rule in ("auto", "ledoit_wolf", "oas")
        ]

    many = jax.pmap(lambda x, m: run(x, m, "d"), axis_name="d")(
        x.reshape(4, 8, 6), mask.reshape(4, 8)
    )
    one = jax.jit(run)(jnp.asarray(x[mask]), jnp.ones(24, bool))
    for a, b in zip(many, one, strict=True):
        np.testing.assert_allclose(a, np.full(4, b), rtol=1e-4)
