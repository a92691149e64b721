"""Native products, which are units of other kernels, against float64 convolutions."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from ltjax.kernels import units
from ltjax.kernels.build import load
from tests.kernels import reference
from tests.kernels.reference import CHANNELS, error, normal

pytestmark = pytest.mark.skipif(load().path is None, reason=load().reason or "built")


@st.composite
def cases(draw):
    """Shapes: odd and even sides, every kind of channels, and what is computed by products."""
    size, stride = draw(st.sampled_from(((1, 1), (1, 2), (3, 2), (5, 2), (7, 2))))
    height, width = draw(st.integers(1, 64)), draw(st.integers(1, 64))
    batch = draw(st.integers(1, max(1, min(130, 4000 // (height * width)))))
    few = CHANNELS if size == 1 or height * width < 100 else CHANNELS[:4]
    into, out = draw(st.sampled_from((3, *few))), draw(st.sampled_from(few))
    return batch, height, width, into, out, size, stride


@given(cases(), st.booleans(), st.integers(0, 99))
@settings(max_examples=30)
def test_value_and_gradients(shape, same, seed):
    batch, height, width, into, out, size, stride = shape
    rng = np.random.default_rng(seed)
    x, kernel = normal(rng, batch, height, width, into), normal(rng, size, size, into, out)
    whole = into % 16 == 0
    affine = np.stack([1 + 0.3 * normal(rng, into), 0.3 * normal(rng, into)]) if whole else None
    u = x.astype(np.float64)
    u = np.maximum(u * affine[0] + affine[1], 0) if whole else u
    wide = kernel.astype(np.float64)

    def call(x, affine, kernel):
        return units.unit(x, affine, kernel, stride, whole, same=same)

    (z, sums), vjp = jax.vjp(call, x, affine, kernel)
    dy, ds = normal(rng, *z.shape), normal(rng, 2, out)
    wanted = reference.convolve(u, wide, stride, same)
    du, dk = reference.gradients(u, wide, dy + ds[0] + 2 * wanted * ds[1], stride, same)
    assert error(z, wanted) < 1e-6
    assert error(sums[1], (wanted**2).sum((0, 1, 2))) < 1e-5
    scale = np.abs(wanted).sum((0, 1, 2)).max()
    assert np.abs(np.asarray(sums[0]) - wanted.sum((0, 1, 2))).max() < 1e-6 * scale
    found = vjp((jnp.asarray(dy), jnp.asarray(ds)))
    assert error(found[2], dk) < 1e-5
    if whole:
        du = np.where(u > 0, du, 0)
        assert error(found[0], du * affine[0]) < 1e-6
        pixels = np.abs(du).sum((0, 1, 2)).max()
        assert np.abs(found[1][1] - du.sum((0, 1, 2))).max() < 1e-6 * pixels
        assert np.abs(found[1][0] - (du * x).sum((0, 1, 2))).max() < 2e-6 * pixels


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2)])
@pytest.mark.parametrize("shape", [(5, 7, 9, 48, 64), (3, 6, 6, 512, 512), (2, 3, 2, 2048, 16)])
@pytest.mark.parametrize("joined", [True, False])
def test_start_of_a_block(joined, shape, size, stride):
    batch, height, width, into, out = shape
    rng = np.random.default_rng(0)
    x, kernel = normal(rng, batch, height, width, into), normal(rng, size, size, into, out)
    affine = np.stack([1 + 0.3 * normal(rng, into), 0.3 * normal(rng, into)])
    shortcut = normal(rng, *x.shape) if joined else None
    a, b = affine.astype(np.float64)
    u, wide = np.maximum(x * a + b + (shortcut if joined else 0), 0), kernel.astype(np.float64)
    call = jax.jit(lambda *a: units.branching_unit(*a, stride))
    (z, _, kept), vjp = jax.vjp(call, x, affine, shortcut, kernel)
    dy, dkept = normal(rng, *z.shape), normal(rng, *x.shape)
    wanted = reference.convolve(u, wide, stride)
    du, dk = reference.gradients(u, wide, dy.astype(np.float64), stride)
    assert error(kept, u) < 1e-6
    assert error(z, wanted) < 1e-6
    found = vjp((jnp.asarray(dy), jnp.zeros((2, out)), jnp.asarray(dkept)))
    du = np.where(u > 0, du + dkept, 0)
    assert error(found[0], du * affine[0]) < 1e-6
    assert error(found[3], dk) < 1e-5
    if joined:
        assert error(found[2], du) < 1e-6
