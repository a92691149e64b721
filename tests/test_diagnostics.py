"""Diagnostics on features whose answer is known."""

import numpy as np

from ltjax.diagnostics import (
    channel_correlation,
    covariance_stability,
    describe,
    effective_rank,
    spectrum,
)


def test_white_features_have_full_rank():
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(100, 5)))
    x = (q - q.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(q, rowvar=False))).T
    out = describe(x)
    np.testing.assert_allclose(out["effective_rank"], 5, rtol=1e-9)
    assert out["max_abs_correlation"] < 1e-9


def test_duplicated_channel():
    x = np.random.default_rng(0).normal(size=(50, 1))
    doubled = np.concatenate([x, -x], axis=1)
    np.testing.assert_allclose(channel_correlation(doubled), (1, 1))
    np.testing.assert_allclose(effective_rank(spectrum(doubled)), 1, rtol=1e-6)


def test_constant_features_are_finite():
    out = describe(np.ones((10, 3)))
    assert out["spectrum"] == [0, 0, 0]
    assert out["mean_abs_correlation"] == 0


def test_covariance_stability_against_a_plain_loop():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    batches = rng.permutation(60).reshape(5, 12)
    out = covariance_stability(x, batches)
    full = (x - x.mean(0)).astype(np.float64).T @ (x - x.mean(0)) / 60
    for d, rows in zip(out, batches, strict=True):
        part = x[rows].astype(np.float64) - x[rows].mean(0)
        expected = np.linalg.norm(part.T @ part / 12 - full) / np.linalg.norm(full)
        np.testing.assert_allclose(d, expected, rtol=1e-5)
    # Free of scale; zero for a batch that is the reference.
    np.testing.assert_allclose(covariance_stability(100 * x, batches), out, rtol=1e-5)
    own = covariance_stability(x, batches[:1], reference=x[batches[0]])
    np.testing.assert_allclose(own, 0, atol=1e-12)
