"""Diagnostics on features whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax
from scipy.stats import multivariate_normal

from ltjax.evaluation.diagnostics import (
    channel_correlation,
    correlation_matrix,
    covariance_stability,
    describe,
    describe_classifier,
    effective_rank,
    gaussian_entropy,
    gradient_cosines,
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


def test_one_feature_has_a_spectrum():
    out = describe(np.array([[0.0], [1.0], [5.0]]))
    assert (out["spectrum"], out["rank"], out["effective_rank"]) == ([1], 1, 1)
    assert describe(np.ones((3, 1)))["spectrum"] == [0]


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


def test_gaussian_entropy_is_that_of_scipy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 5)) * [1, 2, 3, 0.5, 1]
    shares = spectrum(x)
    covariance = np.cov(x, rowvar=False, bias=True)
    unit = covariance / (np.trace(covariance) / 5)
    expected = multivariate_normal(cov=unit).entropy() / 5
    np.testing.assert_allclose(gaussian_entropy(shares), expected)
    np.testing.assert_allclose(gaussian_entropy(spectrum(1e6 * x)), expected)


def test_gradient_cosines_are_those_of_jax():
    rng = np.random.default_rng(1)
    x, kernel, labels = rng.normal(size=(40, 6)), rng.normal(size=(6, 4)), rng.integers(0, 4, 40)
    with jax.enable_x64(True):
        targets = jax.nn.one_hot(labels, 4, dtype=jnp.float64)

        def loss(kernel):
            return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(x @ kernel), axis=1))

        gradient = np.asarray(jax.grad(loss)(jnp.asarray(kernel)))
    unit = gradient / np.linalg.norm(gradient, axis=0)
    np.testing.assert_allclose(gradient_cosines(x, x @ kernel, labels), unit.T @ unit, atol=1e-9)


def test_classifier_in_json():
    rng = np.random.default_rng(2)
    x, kernel, labels = rng.normal(size=(60, 5)), rng.normal(size=(5, 3)), rng.integers(0, 3, 60)
    found = describe_classifier(x, x @ kernel, labels, kernel)
    np.testing.assert_allclose(found["weight_norms"], np.linalg.norm(kernel, axis=0))
    p = softmax(x @ kernel, axis=1)
    blocks = np.einsum("nc,cd->ncd", p, np.eye(3)) - np.einsum("nc,nd->ncd", p, p)
    hessian = np.einsum("ncd,ni,nj->cidj", blocks, x, x).reshape(15, 15) / 60
    values = np.linalg.eigvalsh(hessian)[5:]  # the null space has one dimension a feature
    np.testing.assert_allclose(found["hessian_condition_number"], values[-1] / values[0], rtol=1e-3)
    assert -1 <= found["mean_gradient_cosine"] <= 1
    assert describe_classifier(x, x @ kernel, labels, None)["weight_norms"] is None


def test_correlation_matrix_is_numpys():
    x = np.random.default_rng(3).normal(size=(50, 6))
    x[:, 2] = 1.0
    matrix = correlation_matrix(x, most=4)
    kept = [0, 1, 3]
    np.testing.assert_allclose(matrix[np.ix_(kept, kept)], np.corrcoef(x[:, kept].T), atol=1e-6)
    assert not matrix[2].any()
