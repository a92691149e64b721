"""Native units against float64 convolutions, and their gradients against each other."""

import functools

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
from tests.kernels.tiles import has_tiles

pytestmark = pytest.mark.skipif(load().path is None, reason=load().reason or "built")


@st.composite
def cases(draw):
    """Shapes of a unit: odd and even sides, every kind of channels, batches of 1 to 130."""
    small = draw(st.booleans())
    sides = st.integers(1, 9) if small else st.integers(4, 64)
    height, width = draw(sides), draw(sides)
    most = max(1, min(130, 6000 // (height * width)))
    batch = draw(st.integers(1, most))
    channels = CHANNELS if small else CHANNELS[:4]
    into, out = draw(st.sampled_from((3, *channels))), draw(st.sampled_from(channels))
    return batch, height, width, into, out, draw(st.sampled_from((1, 2)))


@given(cases(), st.booleans(), st.integers(0, 99))
@settings(max_examples=40)
def test_value_and_gradients(shape, same, seed):
    batch, height, width, into, out, stride = shape
    rng = np.random.default_rng(seed)
    x, kernel = normal(rng, batch, height, width, into), normal(rng, 3, 3, into, out)
    gradient = into % 16 == 0
    call = functools.partial(units.unit, stride=stride, input_gradient=gradient, same=same)
    y, vjp = jax.vjp(lambda x, k: call(x, None, k), x, kernel)
    wide = x.astype(np.float64), kernel.astype(np.float64)
    wanted = reference.convolve(*wide, stride, same)
    assert error(y[0], wanted) < 1e-6
    assert error(y[1][1], (wanted**2).sum((0, 1, 2))) < 1e-5
    # Sums of both signs cancel: their error is relative to what was added.
    scale = np.abs(wanted).sum((0, 1, 2)).max()
    assert np.abs(np.asarray(y[1][0]) - wanted.sum((0, 1, 2))).max() < 1e-6 * scale
    dy, ds = normal(rng, *wanted.shape), normal(rng, 2, out)
    dx, dk = vjp((jnp.asarray(dy), jnp.asarray(ds)))
    whole = dy + ds[0].astype(np.float64) + 2 * wanted * ds[1]
    want_dx, want_dk = reference.gradients(*wide, whole, stride, same)
    if into % 16 == 0:
        assert error(dx, want_dx) < 1e-6
    assert error(dk, want_dk) < 1e-5


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(5, 7, 9, 16, 32), (3, 8, 8, 64, 64), (9, 3, 3, 48, 16)])
def test_norm_and_relu_before_it(shape, stride):
    batch, height, width, into, out = shape
    rng = np.random.default_rng(0)
    x, kernel = normal(rng, batch, height, width, into), normal(rng, 3, 3, into, out)
    affine = np.stack([1 + 0.3 * normal(rng, into), 0.3 * normal(rng, into)])
    (z, _), vjp = jax.vjp(lambda *a: units.unit(*a, stride), x, affine, kernel)
    a, b = affine.astype(np.float64)
    before = x * a + b
    u, wide = np.maximum(before, 0), kernel.astype(np.float64)
    assert error(z, reference.convolve(u, wide, stride)) < 1e-6
    dy = normal(rng, *z.shape)
    dx, dab, dk = vjp((jnp.asarray(dy), jnp.zeros((2, out))))
    du, want_dk = reference.gradients(u, wide, dy.astype(np.float64), stride)
    du = np.where(before > 0, du, 0)
    assert error(dx, du * a) < 1e-6
    assert error(dab[0], (du * x).sum((0, 1, 2))) < 1e-5
    assert error(dab[1], du.sum((0, 1, 2))) < 1e-5
    assert error(dk, want_dk) < 1e-5


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(5, 7, 9, 16, 32), (17, 8, 8, 64, 64), (9, 3, 3, 48, 16)])
@pytest.mark.parametrize("joined", [True, False])
def test_unit_that_ends_a_block_and_begins_the_next(joined, shape, stride):
    batch, height, width, into, out = shape
    rng = np.random.default_rng(0)
    x, kernel = normal(rng, batch, height, width, into), normal(rng, 3, 3, into, out)
    affine = np.stack([1 + 0.3 * normal(rng, into), 0.3 * normal(rng, into)])
    shortcut = normal(rng, *x.shape) if joined else None
    call = jax.jit(lambda *a: units.branching_unit(*a, stride))
    (z, sums, kept), vjp = jax.vjp(call, x, affine, shortcut, kernel)
    a, b = affine.astype(np.float64)
    before, wide = x * a + b + (shortcut if joined else 0), kernel.astype(np.float64)
    u = np.maximum(before, 0)
    wanted = reference.convolve(u, wide, stride)
    assert error(kept, u) < 1e-6
    assert error(z, wanted) < 1e-6
    assert error(sums[1], (wanted**2).sum((0, 1, 2))) < 1e-5
    dy, dkept = normal(rng, *z.shape), normal(rng, *x.shape)
    dx, dab, dshortcut, dk = vjp((jnp.asarray(dy), jnp.zeros((2, out)), jnp.asarray(dkept)))
    du, want_dk = reference.gradients(u, wide, dy.astype(np.float64), stride)
    du = np.where(before > 0, du + dkept, 0)
    assert error(dx, du * a) < 1e-6
    assert error(dab[0], (du * x).sum((0, 1, 2))) < 1e-5
    assert error(dab[1], du.sum((0, 1, 2))) < 1e-5
    assert error(dk, want_dk) < 1e-5
    if joined:
        assert error(dshortcut, du) < 1e-6


DTYPES = [jnp.float32, pytest.param(jnp.bfloat16, marks=has_tiles)]


def rounded(x):
    """To bfloat16, in float64."""
    return np.asarray(jnp.asarray(x, jnp.bfloat16), np.float64)


def is_rounded(found, wanted):
    """Whether what is stored in bfloat16 is the nearest number to what was computed in float32."""
    assert found.dtype == jnp.bfloat16
    wanted = np.asarray(wanted, np.float64)
    differ = np.abs(np.asarray(found, np.float64) - wanted)
    return bool((differ <= 2.0**-8 * np.abs(wanted) + 1e-6 * np.abs(wanted).max()).all())


@has_tiles
@given(cases(), st.booleans(), st.integers(0, 99))
@settings(max_examples=40)
def test_bfloat16(shape, same, seed):
    batch, height, width, into, out, stride = shape
    rng = np.random.default_rng(seed)
    x, kernel = normal(rng, batch, height, width, into), normal(rng, 3, 3, into, out)
    images = into % 16 != 0
    call = functools.partial(
        units.unit, stride=stride, input_gradient=not images, same=same, dtype=jnp.bfloat16
    )
    (z, sums), vjp = jax.vjp(lambda x, k: call(x, None, k), x, kernel)
    on_tiles = not images and not (same and stride == 2)
    # Products are of float32 elsewhere.
    factor = rounded if on_tiles else lambda a: np.asarray(a, np.float64)
    left = x if images else np.asarray(rounded(x), np.float32)
    wanted = reference.convolve(factor(left), factor(kernel), stride, same)
    assert is_rounded(z, wanted)
    # The sums are of what is stored.
    stored = np.asarray(z, np.float64)
    assert error(sums[1], (stored**2).sum((0, 1, 2))) < 1e-5
    dy = rounded(normal(rng, *wanted.shape))
    dx, dk = vjp((jnp.asarray(dy, jnp.bfloat16), jnp.zeros((2, out))))
    want_dx, want_dk = reference.gradients(factor(left), factor(kernel), dy, stride, same)
    if not images:
        assert dx.dtype == jnp.float32  # that of x, which the call rounded
        assert is_rounded(dx.astype(jnp.bfloat16), want_dx)
    assert error(dk, want_dk) < 1e-5


@has_tiles
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (1, 1), (1, 2)])
@pytest.mark.parametrize("joined", [True, False])
def test_bfloat16_differs_from_float32_by_rounding(joined, size, stride):
    batch, height, width, into, out = 17, 8, 8, 64, 32
    rng = np.random.default_rng(0)
    x, kernel = rounded(normal(rng, batch, height, width, into)), normal(rng, size, size, into, out)
    x = jnp.asarray(x, jnp.float32)
    affine = np.stack([1 + 0.3 * normal(rng, into), 0.3 * normal(rng, into)])
    shortcut = jnp.asarray(rounded(normal(rng, *x.shape)), jnp.float32) if joined else None
    found = []
    for dtype in (jnp.float32, jnp.bfloat16):
        call = functools.partial(units.branching_unit, stride=stride, dtype=dtype)
        values, vjp = jax.vjp(call, x, affine, shortcut, kernel)
        z, sums, kept = values
        assert (z.dtype, sums.dtype, kept.dtype) == (dtype, jnp.float32, dtype)
        seeded = np.random.default_rng(1)
        dz, dsums = rounded(normal(seeded, *z.shape)), 0.1 * normal(seeded, 2, out)
        dkept = rounded(normal(seeded, *kept.shape))
        given = jnp.asarray(dz, dtype), jnp.asarray(dsums), jnp.asarray(dkept, dtype)
        found.append(jax.tree.leaves((values, vjp(given))))
    for number, (exact, other) in enumerate(zip(*found, strict=True)):
        exact = np.asarray(exact, np.float64)
        assert error(other, exact) < 1e-2
        if number == 2:  # kept: no product
            assert is_rounded(other, exact)


@has_tiles
def test_threads_do_not_change_products_in_bfloat16():
    rng = np.random.default_rng(0)
    x, kernel = normal(rng, 40, 9, 7, 32), normal(rng, 3, 3, 32, 48)

    def gradients(x, kernel):
        return jax.grad(lambda x, k: units.unit(x, None, k, dtype=jnp.bfloat16)[1].sum(), (0, 1))(
            x, kernel
        )

    first = gradients(x, kernel)
    for _ in range(5):
        for one, other in zip(first, gradients(x, kernel), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity_pass(dtype):
    x = jnp.ones((2, 4, 4, 16)).at[0, 1, 1, 3].set(jnp.nan)
    z, sums = units.unit(x, None, jnp.ones((3, 3, 16, 16)), dtype=dtype)
    assert bool(jnp.isnan(z[0]).any())
    assert bool(jnp.isfinite(z[1]).all())
    assert bool(jnp.isnan(sums).all())


def test_what_is_not_supported():
    assert units.supports(3, 16, jnp.float32)
    assert units.supports(2048, 512, jnp.float32)
    assert not units.supports(16, 24, jnp.float32)
    assert not units.supports(24, 16, jnp.float32)
    assert not units.supports(16, 16, jnp.float16)
    assert units.supports(16, 16, jnp.bfloat16) == load().tiles
