"""The native eigendecomposition against NumPy's in float64."""

import os
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from ltjax.kernels.build import load
from ltjax.kernels.eigh import SMALLEST, eigh, supports

pytestmark = pytest.mark.skipif(load().path is None, reason=load().reason or "built")


def symmetric(size, rank, seed):
    """A covariance of the given rank; of rank 0 it is 0."""
    rows = np.random.default_rng(seed).normal(size=(rank, size))
    return (rows.T @ rows / max(rank, 1)).astype(np.float32)


def check(matrix):
    values, vectors = (np.asarray(x, np.float64) for x in eigh(jnp.asarray(matrix)))
    wide = matrix.astype(np.float64)
    scale = max(np.abs(wide).sum(0).max(), 1e-30)
    assert (np.diff(values) >= 0).all()
    assert np.abs(values - np.linalg.eigvalsh(wide)).max() < 3e-6 * scale
    assert np.abs(wide @ vectors - vectors * values).max() < 3e-6 * scale
    assert np.abs(vectors.T @ vectors - np.eye(len(wide))).max() < 1e-5


@given(st.integers(8, 220), st.floats(0, 2), st.integers(0, 99))
@settings(max_examples=25)
def test_values_and_vectors(size, share, seed):
    """Sizes around the blocks of 96 reflectors; ranks from 0 to twice the size."""
    check(symmetric(size, int(share * size), seed))


def test_equal_eigenvalues_and_extreme_scales():
    coupled = np.kron(np.eye(70), [[2, 1], [1, 2]])
    for matrix in (np.eye(97), np.ones((64, 64)), np.diag(np.arange(100) % 3), coupled):
        for scale in (1e-25, 1, 1e25):
            check((scale * matrix).astype(np.float32))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_not_finite_in_nan_out(wrong):
    values, vectors = eigh(jnp.eye(32).at[3, 3].set(wrong))
    assert np.isnan(values).all()
    assert np.isnan(vectors).all()


def test_vmap_is_a_loop():
    many = jnp.asarray([symmetric(40, 40, seed) for seed in range(3)])
    for whole, each in zip(jax.vmap(eigh)(many), zip(*map(eigh, many), strict=True), strict=True):
        np.testing.assert_array_equal(whole, each)


def test_what_is_supported():
    assert supports(SMALLEST, jnp.float32)
    assert not supports(SMALLEST - 1, jnp.float32)
    assert not supports(SMALLEST, jnp.float64)


SUM = """
import hashlib, os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(sys.argv[1])])
import jax, numpy as np
from ltjax.kernels.eigh import eigh, supports
assert supports(200, "float32")
rows = np.random.default_rng(0).integers(-9, 10, (200, 200)).astype(np.float32)
for part in eigh(jax.numpy.asarray(rows.T @ rows)):
    print(hashlib.sha256(np.asarray(part).tobytes()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_one_thread_computes_what_two_compute():
    one, two = (
        subprocess.run(
            [sys.executable, "-c", SUM, cores],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        ).stdout
        for cores in "12"
    )
    assert one == two
    assert len(one.split()) == 2
