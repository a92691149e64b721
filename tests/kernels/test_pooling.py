"""Native max pooling against XLA's, and its gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.kernels.build import load
from ltjax.kernels.pooling import max_pool
from tests.kernels.tiles import has_tiles

DTYPES = [
    jnp.float32,
    pytest.param(jnp.bfloat16, marks=has_tiles),
]
pytestmark = pytest.mark.skipif(load().path is None, reason=load().reason or "built")


def by_xla(x, affine):
    """Norm, ReLU and pooling by XLA's operators."""
    y = nn.relu(affine[0].reshape(1, 1, 1, -1) * x + affine[1].reshape(1, 1, 1, -1))
    return nn.max_pool(y, (3, 3), (2, 2), padding=[(1, 1), (1, 1)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 8, 9, 16), (9, 7, 6, 48), (1, 1, 2, 32), (17, 5, 1, 64)])
def test_value_and_gradients_are_those_of_xla(shape, dtype):
    rng = np.random.default_rng(0)
    # Quarters: values are exact in either dtype, and windows have ties. Scales have both signs.
    x = (rng.integers(-8, 8, shape) / 4).astype(np.float32)
    affine = (rng.integers(-4, 5, (2, shape[3])) / 2).astype(np.float32)
    y, vjp = jax.vjp(max_pool, jnp.asarray(x, dtype), affine)
    assert y.dtype == dtype
    wanted, vjp_xla = jax.vjp(by_xla, x, affine)
    np.testing.assert_array_equal(y, wanted)
    dy = jnp.asarray((rng.integers(-8, 8, y.shape) / 4).astype(np.float32))
    jax.tree.map(np.testing.assert_array_equal, vjp(dy.astype(dtype)), vjp_xla(dy))


def test_nan_passes():
    x = jnp.ones((1, 4, 4, 16)).at[0, 0, 0, 3].set(jnp.nan)
    y = max_pool(x, jnp.full((2, 16), jnp.nan))
    assert bool(jnp.isnan(y).all())
