"""The diversity of experts against float64 loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.errors import InputError
from ltjax.losses import expert_diversity

LOGITS = np.random.default_rng(0).normal(size=(3, 5, 4)) * 2


def reference(z, fixed):
    """The mean over the examples; the average is that of fixed logits."""
    total = 0.0
    for i in range(z.shape[1]):
        p = np.exp(fixed.mean(axis=0)[i])
        p /= p.sum()
        for logits in z[:, i]:
            q = np.exp(logits) / np.exp(logits).sum()
            total += sum(p[c] * np.log(p[c] / q[c]) for c in range(len(p))) / len(z)
    return total / z.shape[1]


def test_value_and_gradient():
    loss = jax.value_and_grad(lambda z: jnp.mean(expert_diversity(z)))
    value, slope = loss(jnp.asarray(LOGITS, jnp.float32))
    np.testing.assert_allclose(value, reference(LOGITS, LOGITS), rtol=1e-5)
    numeric, step = np.zeros_like(LOGITS), 1e-6
    for index in np.ndindex(*LOGITS.shape):
        moved = [LOGITS.copy(), LOGITS.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        up, down = (reference(z, LOGITS) for z in moved)
        numeric[index] = (up - down) / (2 * step)
    np.testing.assert_allclose(slope, numeric, rtol=1e-3, atol=1e-6)


def test_none_where_all_are_alike():
    same = jnp.tile(jnp.asarray(LOGITS[:1], jnp.float32), (4, 1, 1))
    np.testing.assert_allclose(expert_diversity(same), 0, atol=1e-6)
    np.testing.assert_allclose(expert_diversity(same[:1]), 0, atol=1e-6)
    with pytest.raises(InputError, match=r"use \[K, B, C\]"):
        expert_diversity(same[0])
