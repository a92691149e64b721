"""Chains and BET's weights: means of the two kinds, order, devices, compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import (
    batch_embedded,
    batch_loss,
    chain,
    identity,
    logit_adjustment,
    loss_inputs,
    make_loss,
)

COUNTS = np.array([100, 10, 1])


def make_inputs(scale=1.0, size=12, embedded=4):
    rng = np.random.default_rng(0)
    logits = (rng.normal(size=(size, 3)) * scale).astype(np.float32)
    labels = rng.integers(0, 3, size)
    return loss_inputs(jnp.asarray(logits), labels, np.arange(size) >= size - embedded)


def log_softmax(z):
    z = np.asarray(z, np.float64)
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def reference_ce(z, labels):
    return -log_softmax(z)[np.arange(len(labels)), labels]


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_batch_embedded(weight):
    inputs = make_inputs()
    each = reference_ce(inputs.logits, inputs.targets)
    expected = (1 - weight) * each[:8].mean() + weight * each[8:].mean()
    value = batch_loss(batch_embedded(weight), inputs, (), step=0)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize("embedded", [0, 12])
def test_batch_of_one_kind_is_its_mean(embedded):
    inputs = make_inputs(embedded=embedded)
    mean = reference_ce(inputs.logits, inputs.targets).mean()
    value = batch_loss(batch_embedded(0.3), inputs, (), step=0)
    np.testing.assert_allclose(value, mean, rtol=1e-5)
    scheduled = batch_loss(batch_embedded(lambda step: 0.1 * step), inputs, (), step=3)
    factor = 0.3 if embedded else 0.7
    np.testing.assert_allclose(scheduled, factor * mean, rtol=1e-5)


def test_chain_applies_in_order_and_keeps_earlier_weights():
    inputs = make_inputs()
    doubled = inputs._replace(weights=2 * inputs.weights)
    transform = chain(logit_adjustment(), batch_embedded(0.5))
    state = transform.init(jnp.asarray(COUNTS))
    once = batch_loss(transform, inputs, state, step=0)
    np.testing.assert_allclose(batch_loss(transform, doubled, state, step=0), 2 * once, rtol=1e-6)
    assert batch_loss(chain(), inputs, (), step=0) == batch_loss(identity(), inputs, (), step=0)


def test_devices_agree_with_one(devices):
    inputs = make_inputs(embedded=5)
    state = logit_adjustment().init(jnp.asarray(COUNTS))

    def local(logits, labels, embedded, axis_name="d"):
        transform = chain(logit_adjustment(), batch_embedded(0.3, axis_name=axis_name))
        return batch_loss(transform, loss_inputs(logits, labels, embedded), (state, ()), step=0)

    def split(x):
        return np.asarray(x).reshape(4, 3, *x.shape[1:])

    parts = jax.pmap(local, axis_name="d")(
        split(inputs.logits), split(inputs.targets), split(inputs.embedded)
    )
    whole = local(inputs.logits, inputs.targets, inputs.embedded, axis_name=None)
    np.testing.assert_allclose(np.mean(parts), whole, rtol=1e-6)


def test_one_compilation_for_all_steps():
    transform = make_loss(
        name="logit_adjustment", tau=1.0, embedded_weight=0.5, embedded=True, axis_name=None
    )
    state = transform.init(jnp.asarray(COUNTS))
    loss = jax.jit(lambda inputs, step: batch_loss(transform, inputs, state, step=step))
    for step in range(3):
        loss(make_inputs(), jnp.asarray(step))
    assert loss._cache_size() == 1


def test_half_precision_logits_give_a_float32_loss():
    logits = jnp.zeros((2, 3), jnp.bfloat16)
    inputs = loss_inputs(logits, np.array([0, 1]), np.zeros(2, bool))
    value = batch_loss(identity(), inputs, (), step=0)
    assert value.dtype == jnp.float32


def test_bad_weight():
    with pytest.raises(ValueError, match=r"embedded_weight = 1.5"):
        batch_embedded(1.5)
