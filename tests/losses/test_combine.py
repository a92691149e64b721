"""Chains: order, regularizers, devices, what may not be combined."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import losses
from ltjax.losses import batch_loss, bet_weights, chain, identity, loss_inputs

COUNTS = np.array([100, 10, 1])


def make_inputs(size=12):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(size, 3)).astype(np.float32)
    return loss_inputs(logits, rng.integers(0, 3, size))


def value(transform, inputs, bet=None, step=0):
    return batch_loss(transform, inputs, transform.init(COUNTS), step=step, bet=bet)


def test_chain_applies_in_order_and_keeps_earlier_weights():
    inputs = make_inputs()
    doubled = inputs._replace(weights=2 * inputs.weights)
    transform = chain(losses.logit_adjustment_transform(), losses.focal_transform())
    once = value(transform, inputs)
    np.testing.assert_allclose(value(transform, doubled), 2 * once, rtol=1e-6)
    assert value(chain(), inputs) == value(identity(), inputs)


def test_bet_has_no_default():
    inputs = make_inputs()
    with pytest.raises(TypeError, match="bet"):
        batch_loss(identity(), inputs, (), step=0)


def test_bet_weights_the_loss_of_a_chain_and_not_its_regularizer():
    inputs, bet = make_inputs(), bet_weights(np.arange(12) >= 8, 0.3)
    transform = chain(losses.lade_transform(0.5), losses.label_smoothing_transform())
    plain = chain(losses.balanced_softmax_transform(), losses.label_smoothing_transform())
    extra = value(transform, inputs) - value(plain, inputs)
    assert abs(extra) > 0.01
    np.testing.assert_allclose(
        value(transform, inputs, bet), value(plain, inputs, bet) + extra, rtol=1e-5
    )


def test_regularizer_of_a_chain_sees_what_comes_to_it():
    """Of the same inputs as without the chain around it, of edited ones after an edit."""
    inputs = make_inputs()
    alone = losses.lade_transform(0.5)
    after = chain(alone, losses.focal_transform())
    state = alone.init(COUNTS)
    np.testing.assert_array_equal(
        after.regularizer(inputs, (state, ()), step=0), alone.regularizer(inputs, state, step=0)
    )
    smoothed = losses.label_smoothing_transform(0.3)
    before = chain(smoothed, alone)
    np.testing.assert_array_equal(
        before.regularizer(inputs, ((), state), step=0),
        alone.regularizer(smoothed.apply(inputs, (), step=0), state, step=0),
    )
    assert chain(identity(), losses.focal_transform()).regularizer is None


def test_one_compilation_for_all_steps():
    transform = chain(losses.logit_adjustment_transform(), losses.drw_transform(1))
    state = transform.init(COUNTS)
    loss = jax.jit(
        lambda inputs, flags, step: batch_loss(
            transform, inputs, state, step=step, bet=bet_weights(flags)
        )
    )
    for step in range(3):
        loss(make_inputs(), np.arange(12) >= 8, jnp.asarray(step))
    assert loss._cache_size() == 1


@pytest.mark.parametrize(
    "make",
    [losses.lade_transform, losses.equalization_transform],
    ids=["lade", "equalization"],
)
def test_devices_agree_with_one(devices, make):
    given = make_inputs()

    def local(z, targets, axis_name="d"):
        transform = make(axis_name=axis_name)
        return jax.value_and_grad(lambda z: value(transform, loss_inputs(z, targets), step=3))(z)

    def split(x):
        return np.asarray(x).reshape(4, 3, *x.shape[1:])

    arrays = (given.logits, given.targets)
    value_parts, gradient_parts = jax.pmap(local, axis_name="d")(*map(split, arrays))
    whole, gradient = local(*arrays, axis_name=None)
    np.testing.assert_allclose(np.mean(value_parts), whole, rtol=1e-6)
    # The step averages the devices' gradients of shared parameters: so here, a quarter each.
    np.testing.assert_allclose(
        np.asarray(gradient_parts).reshape(12, 3) / 4, gradient, rtol=1e-5, atol=1e-7
    )


def test_half_precision_logits_give_a_float32_loss():
    inputs = loss_inputs(jnp.zeros((2, 3), jnp.bfloat16), np.array([0, 1]))
    assert value(identity(), inputs).dtype == jnp.float32


REFUSED = {
    "prior twice": (
        losses.logit_adjustment_transform,
        losses.balanced_softmax_transform,
        "corrected twice",
    ),
    "seesaw and prior": (
        losses.seesaw_transform,
        losses.vector_scaling_transform,
        "corrected twice",
    ),
    "prior before margin": (
        losses.logit_adjustment_transform,
        losses.ldam_transform,
        "exchange the two",
    ),
    "margin after smoothing": (
        losses.label_smoothing_transform,
        losses.ldam_transform,
        "one class an example",
    ),
    "seesaw after smoothing": (
        losses.label_smoothing_transform,
        losses.seesaw_transform,
        "one class an example",
    ),
    "smoothing twice": (
        losses.label_smoothing_transform,
        losses.label_aware_smoothing_transform,
        "smooth once",
    ),
    "smoothing after weights": (
        losses.inverse_frequency_transform,
        losses.label_smoothing_transform,
        "spread weights",
    ),
    "weights twice": (
        losses.inverse_frequency_transform,
        losses.class_balanced_transform,
        "weighted twice",
    ),
    "focal before prior": (
        losses.focal_transform,
        losses.logit_adjustment_transform,
        "change after it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_meaningless_chains_are_refused_with_a_reason(case):
    first, second, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        chain(first(), second())
    with pytest.raises(ValueError, match=words):
        chain(chain(losses.identity(), first()), second())
