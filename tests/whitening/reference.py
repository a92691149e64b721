"""Whitening in float64 NumPy straight from the formulas, and features to whiten."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.whitening import whiten

STATIC = ("method", "shrinkage", "groups", "steps", "native")


@partial(jax.jit, static_argnames=STATIC)
def forward(x, mask=None, **options):
    """`whiten`, compiled once for every shape and option."""
    return whiten(x, mask=mask, **options)


@partial(jax.jit, static_argnames=STATIC)
def pull(x, weights, **options):
    """`Z` and the gradient of `sum(tanh(Z) * weights)`."""

    def loss(x):
        z = whiten(x, **options)
        return jnp.sum(jnp.tanh(z) * weights), z

    (_, z), gradient = jax.value_and_grad(loss, has_aux=True)(x)
    return z, gradient


def double(x, weights, **options):
    """`pull` in float64."""
    with jax.enable_x64(True):
        z, gradient = pull(
            jnp.asarray(x, jnp.float64), jnp.asarray(weights, jnp.float64), **options
        )
        return np.asarray(z), np.asarray(gradient)


def features(n, d, seed=0, condition=100.0):
    """Rows whose covariance has eigenvalues from 1 down to 1 / condition, rotated and shifted."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(d, d)))
    scales = condition ** (-np.arange(d) / (2 * max(d - 1, 1)))
    return ((rng.normal(size=(n, d)) * scales) @ rotation + rng.normal(size=d)).astype(np.float32)


def weights_for(x, seed=1):
    """Weights of a loss, of the shape of `x`."""
    return np.random.default_rng(seed).normal(size=np.shape(x)).astype(np.float32)


def shrunk(x, shrinkage):
    """Centered rows and shrunk covariance."""
    x = np.asarray(x, np.float64)
    xc = x - x.mean(axis=0)
    s = xc.T @ xc / len(x)
    return xc, (1 - shrinkage) * s + shrinkage * np.trace(s) / len(s) * np.eye(len(s))


def whitened(x, shrinkage, method="zca"):
    """`Z` of one group."""
    xc, s = shrunk(x, shrinkage)
    if method == "batch_norm":
        return xc / np.sqrt(np.diag(s))
    if method == "cholesky":
        return np.linalg.solve(np.linalg.cholesky(s), xc.T).T
    values, vectors = np.linalg.eigh(s)
    return xc @ (vectors / np.sqrt(values)) @ vectors.T


def relative(actual, expected):
    """Relative error in the Frobenius norm."""
    expected = np.asarray(expected, np.float64)
    return np.linalg.norm(np.asarray(actual, np.float64) - expected) / np.linalg.norm(expected)
