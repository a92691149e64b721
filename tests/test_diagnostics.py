"""Diagnostics on features whose answer is known."""

import numpy as np

from ltjax.diagnostics import channel_correlation, describe, effective_rank, spectrum


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
