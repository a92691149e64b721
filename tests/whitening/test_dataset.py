"""Statistics of a data set in chunks against those of all rows at once."""

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.whitening import batch_moments, whiten_batch
from ltjax.whitening.dataset import dataset_moments, dataset_statistics
from ltjax.whitening.linen import ChannelWhitening
from ltjax.whitening.running import evaluate, running_matrix

ROWS = np.random.default_rng(0).normal(size=(50, 6)) @ np.diag([1, 2, 3, 1, 0.1, 1]) + 5.0
CHUNKS = np.split(ROWS.astype(np.float32), [20, 20, 40])  # one of them is empty


@pytest.mark.parametrize(
    "options", [{}, {"groups": 2}, {"diagonal": True}, {"groups": 3, "diagonal": True}]
)
def test_moments_are_those_of_all_rows(options):
    found = dataset_moments(CHUNKS, **options)
    expected = batch_moments(jnp.asarray(ROWS, jnp.float32), **options)
    assert found.rows == 50
    np.testing.assert_allclose(found.mean, ROWS.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shrinkage", [0.3, "auto", "ledoit_wolf", "oas"])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_layer_whitens_as_a_batch_of_all_rows_would(shrinkage, groups):
    layer = ChannelWhitening(shrinkage=shrinkage, groups=groups)
    state = dataset_statistics(layer, lambda: CHUNKS)
    rows = jnp.asarray(ROWS, jnp.float32)
    whole = whiten_batch(rows, shrinkage=shrinkage, groups=groups)
    np.testing.assert_allclose(state.shrinkage, whole.shrinkage, rtol=1e-3)
    found = evaluate(state, running_matrix(layer, state), rows)
    np.testing.assert_allclose(found, whole.output, rtol=1e-3, atol=1e-3)


def test_bad_input():
    with pytest.raises(ValueError, match="rows = 0"):
        dataset_moments([])
