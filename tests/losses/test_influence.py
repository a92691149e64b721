"""Influence balance against float64 NumPy, its switch, its limits, and the published code."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.errors import InputError
from ltjax.losses import (
    batch_loss,
    cross_entropy,
    identity,
    influence_balanced,
    influence_balanced_transform,
    inverse_frequency_weights,
    loss_inputs,
)

COUNTS = np.array([400, 90, 20, 5])
RNG = np.random.default_rng(0)
LOGITS, FEATURES = RNG.normal(size=(9, 4)) * 2, RNG.normal(size=(9, 6))
LABELS = np.array([0, 0, 1, 2, 3, 3, 1, 0, 2])
ALPHA = 20.0


def reference(z, y, h, fixed=None):
    """The mean over the examples, by loops; weights of fixed logits where some are given."""
    inverse = [1 / n for n in COUNTS]
    total = 0.0
    for i, own in enumerate(y):
        p = np.exp(z[i]) / np.exp(z[i]).sum()
        at = z[i] if fixed is None else fixed[i]
        q = np.exp(at) / np.exp(at).sum()
        influence = sum(abs(q[c] - (c == own)) for c in range(4)) * sum(abs(x) for x in h[i])
        weight = inverse[own] / sum(inverse) * 4
        total -= weight * ALPHA / (influence + 0.001) * np.log(p[own])
    return total / len(y)


def slope(function, x, step=1e-6):
    """Central differences."""
    found = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        found[index] = (function(up) - function(down)) / (2 * step)
    return found


@pytest.mark.parametrize("published", [False, True])
def test_value_and_gradients(published):
    def loss(z, h):
        return jnp.mean(influence_balanced(z, LABELS, h, COUNTS, ALPHA, published=published))

    arrays = jnp.asarray(LOGITS, jnp.float32), jnp.asarray(FEATURES, jnp.float32)
    value, (by_logits, by_features) = jax.value_and_grad(loss, (0, 1))(*arrays)
    np.testing.assert_allclose(value, reference(LOGITS, LABELS, FEATURES), rtol=1e-5)
    fixed = None if published else LOGITS
    wanted = slope(lambda z: reference(z, LABELS, FEATURES, fixed), LOGITS)
    np.testing.assert_allclose(by_logits, wanted, rtol=1e-4, atol=1e-6)
    wanted = slope(lambda h: reference(LOGITS, LABELS, h), FEATURES) * published
    np.testing.assert_allclose(by_features, wanted, rtol=1e-4, atol=1e-6)


def test_plain_until_its_step_and_balanced_from_it_on():
    transform = influence_balanced_transform(5, ALPHA)
    state = transform.init(COUNTS)
    given = loss_inputs(jnp.asarray(LOGITS, jnp.float32), LABELS, FEATURES)
    once = jax.jit(lambda x, step: batch_loss(transform, x, state, step=step, bet=None))
    assert once(given, 4) == batch_loss(identity(), given, (), step=4, bet=None)
    each = influence_balanced(given.logits, LABELS, FEATURES, COUNTS, ALPHA)
    np.testing.assert_allclose(once(given, 5), jnp.mean(each), rtol=1e-6)
    hot = given._replace(targets=given.soft_targets())
    np.testing.assert_allclose(once(hot, 5), jnp.mean(each), rtol=1e-6)


def test_examples_of_equal_influence_are_weighted_by_class_alone():
    z, h = jnp.zeros((4, 4)), jnp.ones((4, 2))
    y = jnp.arange(4)
    found = influence_balanced(z, y, h, COUNTS, alpha=3.001)  # |p - y| |h| = 1.5 * 2
    wanted = inverse_frequency_weights(COUNTS) * cross_entropy(z, y)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_finite_where_nothing_is_missed():
    z, h = jnp.array([[1e4, 0.0, 0.0, -1e4]]), jnp.zeros((1, 3))
    for published in (False, True):
        value, found = jax.value_and_grad(
            lambda z: influence_balanced(z, jnp.array([0]), h, COUNTS, published=published)[0]  # noqa: B023
        )(z)
        assert value == 0
        assert np.isfinite(found).all()


def test_needs_the_inputs_of_the_classifier():
    transform = influence_balanced_transform()
    with pytest.raises(InputError, match=r"give loss_inputs\(logits, targets, features\)"):
        transform.apply(loss_inputs(LOGITS, LABELS), transform.init(COUNTS), step=0)


def test_numbers_of_the_published_code():
    golden = np.load(Path(__file__).parent / "golden" / "influence.npz")

    def loss(z, h):
        each = influence_balanced(z, golden["labels"], h, golden["counts"], published=True)
        return jnp.mean(each)

    value, slopes = jax.value_and_grad(loss, (0, 1))(golden["logits"], golden["features"])
    np.testing.assert_allclose(value, golden["value"], rtol=1e-5)
    for name, found in zip(("by_logits", "by_features"), slopes, strict=True):
        np.testing.assert_allclose(found, golden[name], rtol=1e-4, atol=1e-5)
