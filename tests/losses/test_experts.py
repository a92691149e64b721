"""The diversity of experts against float64 loops, and numbers of the published code."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.errors import InputError
from ltjax.losses import cross_entropy, expert_diversity

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


def test_numbers_of_the_published_code():
    golden = np.load(Path(__file__).parent / "golden" / "experts.npz")

    def loss(logits):
        own = jnp.stack([jnp.mean(cross_entropy(z, golden["labels"])) for z in logits])
        return jnp.mean(own) - golden["weight"] * jnp.mean(expert_diversity(logits))

    value, slope = jax.value_and_grad(loss)(jnp.asarray(golden["logits"]))
    # There the experts' losses are added.
    np.testing.assert_allclose(3 * value, golden["value"], rtol=1e-5)
    np.testing.assert_allclose(3 * slope, golden["by_logits"], rtol=1e-4, atol=1e-6)
