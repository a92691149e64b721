"""Post-hoc logit adjustment, in JAX and in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import adjusted_logits, log_prior, logit_adjustment_transform, loss_inputs

COUNTS = np.array([400, 90, 20, 5])


@pytest.mark.parametrize("xp", [np, jnp], ids=["numpy", "jax"])
def test_posthoc_undoes_the_loss(xp):
    logits = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    transform = logit_adjustment_transform(0.7)
    inputs = loss_inputs(logits, np.zeros(12, int))
    shifted = transform.apply(inputs, transform.init(COUNTS), step=0).logits
    undone = adjusted_logits(xp.asarray(shifted), COUNTS, 0.7)
    assert isinstance(undone, np.ndarray if xp is np else jax.Array)
    assert undone.dtype == np.float32
    np.testing.assert_allclose(undone, logits, atol=2e-6)


def test_numpy_computes_in_float64():
    logits = np.random.default_rng(0).normal(size=(5, 4))
    expected = logits - 1.3 * np.log(COUNTS / COUNTS.sum())[None, :]
    np.testing.assert_array_equal(adjusted_logits(logits, COUNTS, 1.3), expected)
    np.testing.assert_array_equal(adjusted_logits(logits.T, COUNTS, 1.3, axis=0), expected.T)
    assert np.isfinite(adjusted_logits(logits, np.array([3, 0, 0, 1]))).all()


def test_biases_and_traced_strength():
    bias = jnp.arange(4.0)
    of_bias = jax.jit(lambda tau: adjusted_logits(bias, COUNTS, tau))(-0.5)
    np.testing.assert_allclose(of_bias, bias + 0.5 * log_prior(COUNTS), rtol=1e-6)
