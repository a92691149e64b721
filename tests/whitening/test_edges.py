"""Edge cases: whatever the batch, the output and the gradient are finite and right."""

from functools import partial

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.whitening import inverse_sqrt, whiten, whitening_matrix
from tests.whitening.reference import features, forward, pull, weights_for, whitened

WHITENING = ("zca", "zca_svd", "newton_schulz", "cholesky", "batch_norm")


@hypothesis.given(
    n=st.sampled_from([1, 2, 12]),
    shape=st.sampled_from([(1, 1), (6, 1), (6, 2)]),
    dtype=st.sampled_from(["float32", "bfloat16"]),
    seed=st.integers(0, 99),
    scale=st.integers(-15, 15),
    condition=st.sampled_from([1.0, 1e2, 1e6]),
)
def test_finite_and_right_everywhere(n, shape, dtype, seed, scale, condition):
    d, groups = shape
    x = features(n, d, seed, condition) * np.float32(10.0**scale)
    x = jnp.asarray(x).astype(dtype)
    z, gradient = pull(x, jnp.ones_like(x), shrinkage=0.05, groups=groups)
    assert z.dtype == gradient.dtype == x.dtype
    assert np.isfinite(z).all()
    assert np.isfinite(gradient).all()
    wide = np.asarray(x.astype(jnp.float32), np.float64)
    parts = np.split(wide, groups, axis=1)
    expected = np.concatenate([whitened(p, 0.05) if n > 1 else 0 * p for p in parts], axis=1)
    gate = 1e-3 if dtype == "float32" else 3e-2  # bfloat16: of the output's own rounding
    np.testing.assert_allclose(z.astype(jnp.float32), expected, atol=gate)


DEGENERATE = {
    "zeros": np.zeros((6, 4)),
    "equal": np.ones((6, 4)) * 3.7,
    "equal large": np.tile([[1e6, -2.0, 0.1, 5.0]], (6, 1)),
    "identity covariance": np.concatenate([np.eye(4), -np.eye(4)])[[0, 4, 1, 5, 2, 6, 3, 7]],
    "repeated eigenvalues": np.eye(4)[[0, 1, 2, 3, 0, 1]],
    "rank one": np.repeat(np.random.default_rng(0).normal(size=(6, 1)), 4, axis=1),
    "one row": np.random.default_rng(0).normal(size=(1, 4)),
    "two rows": np.random.default_rng(0).normal(size=(2, 4)),
    "tiny": np.random.default_rng(0).normal(size=(6, 4)) * 1e-15,
    "huge": np.random.default_rng(0).normal(size=(6, 4)) * 1e15,
    "one outlier": np.eye(6)[:, :4] * 1e6,
    "one channel constant": np.random.default_rng(0).normal(size=(6, 4)) * [1, 1, 0, 1],
}


@pytest.mark.parametrize(("method", "shrinkage"), [*((m, 1e-6) for m in WHITENING), ("zca", 1e-2)])
def test_degenerate_batches_have_finite_gradients(method, shrinkage):
    for name, x in DEGENERATE.items():
        x = jnp.asarray(x, jnp.float32)
        z, gradient = pull(x, jnp.asarray(weights_for(x)), method=method, shrinkage=shrinkage)
        assert np.isfinite(z).all(), name
        assert np.isfinite(gradient).all(), name
        if np.ptp(x, axis=0).max() == 0:
            np.testing.assert_array_equal(z, 0, err_msg=name)
            np.testing.assert_array_equal(gradient, 0, err_msg=name)


@pytest.mark.parametrize("rule", ["ledoit_wolf", "oas"])
def test_degenerate_batches_under_every_rule(rule):
    for name, x in DEGENERATE.items():
        x = jnp.asarray(x, jnp.float32)
        z, gradient = pull(x, jnp.asarray(weights_for(x)), shrinkage=rule)
        assert np.isfinite(z).all(), name
        assert np.isfinite(gradient).all(), name


def test_a_flat_group_stays_flat():
    x = features(16, 4)
    x[:, 2:] = 5.0
    z = forward(jnp.asarray(x), groups=2, shrinkage=0.01)
    np.testing.assert_array_equal(z[:, 2:], 0)
    np.testing.assert_allclose(z[:, :2], whitened(x[:, :2], 0.01), atol=1e-4)


def test_autodiff_of_eigh_fails_where_the_closed_form_does_not():
    """The reason for the closed form: identity covariance, all eigenvalues equal."""

    def plain(s):
        values, vectors = jnp.linalg.eigh(s)
        return jnp.sum((vectors / jnp.sqrt(values)[None, :]) @ vectors.T * weights)

    weights = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)), jnp.float32)
    eye = jnp.eye(4)
    assert not np.isfinite(jax.jit(jax.grad(plain))(eye)).all()
    for method in ("eigh", "newton_schulz"):
        gradient = jax.jit(
            jax.grad(lambda s, m=method: jnp.sum(inverse_sqrt(s, method=m) * weights))
        )
        np.testing.assert_allclose(gradient(eye), -(weights + weights.T) / 4, atol=1e-6)


@pytest.mark.parametrize("method", WHITENING)
@pytest.mark.parametrize("n", [20, 5])
def test_masked_rows_do_not_matter(method, n):
    x = features(n, 8)
    padded = np.concatenate([x, np.full((2, 8), np.nan, np.float32)])
    mask = jnp.arange(n + 2) < n
    z = forward(jnp.asarray(padded), mask, method=method, shrinkage=0.1)
    np.testing.assert_allclose(
        z[:n], forward(jnp.asarray(x), method=method, shrinkage=0.1), atol=1e-5
    )
    np.testing.assert_array_equal(z[n:], 0)


def test_all_rows_masked():
    z = forward(jnp.asarray(features(4, 3)), jnp.zeros(4, bool))
    np.testing.assert_array_equal(z, 0)


def test_zero_covariance_has_a_zero_matrix():
    for method in WHITENING:
        shape = (3,) if method == "batch_norm" else (3, 3)
        matrix = jax.jit(partial(whitening_matrix, method=method))(jnp.zeros(shape))
        np.testing.assert_array_equal(matrix, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "pca"}, "method = 'pca' is not allowed; use one of zca"),
        ({"shrinkage": 0.0}, "shrinkage = 0.0 is not allowed; use a number >= 1e-09"),
        ({"shrinkage": float("nan")}, "shrinkage = nan"),
        ({"shrinkage": "best"}, "shrinkage = 'best' .* one of auto, ledoit_wolf, oas"),
        ({"shrinkage": "oas", "method": "batch_norm"}, "shrinkage = 'oas' .* batch_norm"),
        ({"groups": 3}, "groups = 3 is not allowed; use a divisor of the 4 channels"),
        ({"groups": 0}, "groups = 0"),
        ({"steps": 0}, "steps = 0 is not allowed; use an integer >= 1"),
    ],
    ids=str,
)
def test_bad_input(options, words):
    with pytest.raises(ValueError, match=words):
        whiten(jnp.ones((6, 4)), **options)
