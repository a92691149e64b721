"""BET's weights: means of the two kinds, one kind alone, schedules, devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import bet_weights, ramp


def draw(size=12, embedded=4):
    """Losses of the examples, and flags: the last ones are embedded."""
    each = np.random.default_rng(0).uniform(0.1, 3.0, size).astype(np.float32)
    return each, np.arange(size) >= size - embedded


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("scale_one_kind", [False, True])
def test_both_kinds(weight, scale_one_kind):
    each, flags = draw()
    expected = (1 - weight) * each[:8].mean() + weight * each[8:].mean()
    weights = bet_weights(flags, weight, scale_one_kind=scale_one_kind)
    np.testing.assert_allclose(jnp.mean(weights * each), expected, rtol=1e-5)
    np.testing.assert_allclose(jnp.mean(weights), 1, rtol=1e-6)
    assert weights.dtype == jnp.float32


@pytest.mark.parametrize("embedded", [0, 12])
def test_one_kind_is_its_mean_or_scaled(embedded):
    each, flags = draw(embedded=embedded)
    np.testing.assert_allclose(bet_weights(flags, 0.3), np.ones(12), rtol=1e-6)
    scaled = jnp.mean(bet_weights(flags, 0.3, scale_one_kind=True) * each)
    np.testing.assert_allclose(scaled, (0.3 if embedded else 0.7) * each.mean(), rtol=1e-5)


def test_weight_may_be_a_schedules_value_and_traced():
    _, flags = draw()
    schedule = ramp(0, 10)
    traced = jax.jit(lambda flags, step: bet_weights(flags, schedule(step)))
    for step in (0, 3, 10):
        expected = bet_weights(flags, step / 10)
        np.testing.assert_allclose(traced(flags, jnp.asarray(step)), expected, rtol=1e-6)
    assert traced._cache_size() == 1


def test_mapped_over_batches():
    flags = np.stack([draw(embedded=n)[1] for n in (0, 4, 12)])
    mapped = jax.vmap(bet_weights)(flags)
    for row, own in zip(flags, mapped, strict=True):
        np.testing.assert_allclose(own, bet_weights(row), rtol=1e-6)


def test_devices_agree_with_one(devices):
    _, flags = draw(embedded=5)
    mapped = jax.pmap(lambda flags: bet_weights(flags, 0.3, axis_name="d"), axis_name="d")
    parts = mapped(flags.reshape(4, 3))
    np.testing.assert_allclose(parts.reshape(-1), bet_weights(flags, 0.3), rtol=1e-6)


@pytest.mark.parametrize("weight", [1.5, -0.1, np.nan])
def test_bad_weight(weight):
    with pytest.raises(ValueError, match=rf"weight = {weight} is not allowed; use a number >= 0"):
        bet_weights(np.zeros(2, bool), weight)
