"""Chains: order, regularizers, devices, what may not be combined."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import losses
from ltjax.losses import batch_loss, bet_weights, by_epoch, chain, identity, loss_inputs

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


def test_bet_weights_the_loss_of_a_chain_and_the_means_of_its_regularizer():
    """The prior by which the regularizer divides is that of the weighted batch."""
    inputs, bet = make_inputs(), bet_weights(np.arange(12) >= 8, 0.3)
    lade = losses.lade_transform(0.5)
    transform = chain(lade, losses.label_smoothing_transform())
    plain = chain(losses.balanced_softmax_transform(), losses.label_smoothing_transform())
    state = lade.init(COUNTS)
    extra = lade.regularizer(inputs._replace(weights=bet), state, step=0)
    assert abs(extra - lade.regularizer(inputs, state, step=0)) > 0.01
    np.testing.assert_allclose(
        value(transform, inputs, bet), value(plain, inputs, bet) + extra, rtol=1e-5
    )


@pytest.mark.parametrize("published", [False, True])
def test_the_regularizer_of_lade_counts_a_weight_as_so_many_rows(published):
    inputs, times = make_inputs(), np.arange(12) % 3 + 1
    transform = losses.lade_transform(0.5, published=published)
    state = transform.init(COUNTS)
    weighted = inputs._replace(weights=jnp.asarray(times, jnp.float32))
    logits, targets = (np.repeat(x, times, axis=0) for x in (inputs.logits, inputs.targets))
    repeated = loss_inputs(logits, targets)
    np.testing.assert_allclose(
        transform.regularizer(weighted, state, step=0),
        transform.regularizer(repeated, state, step=0),
        rtol=1e-5,
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


MAKE = {
    "lade": losses.lade_transform,
    "equalization": lambda axis_name: losses.equalization_transform(2.0, 0.5),
    "weighted mean": lambda axis_name: losses.inverse_frequency_transform(),
    "drw": lambda axis_name: losses.drw_transform(2),
}


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
@pytest.mark.parametrize("embedded", [False, True])
def test_devices_agree_with_one(devices, make, embedded):
    given, flags = make_inputs(), np.arange(12) % 5 == 0

    def local(z, targets, flags, slots, axis_name="d"):
        transform = make(axis_name=axis_name)
        bet = bet_weights(flags, 0.7, axis_name=axis_name) if embedded else None

        def loss(z):
            inputs = loss_inputs(z, targets)._replace(slots=slots)
            state = transform.init(COUNTS)
            return batch_loss(transform, inputs, state, step=3, bet=bet, axis_name=axis_name)

        return jax.value_and_grad(loss)(z)

    def split(x):
        return np.asarray(x).reshape(4, 3, *x.shape[1:])

    arrays = (given.logits, given.targets, flags, np.arange(12))
    value_parts, gradient_parts = jax.pmap(local, axis_name="d")(*map(split, arrays))
    whole, gradient = local(*arrays, axis_name=None)
    np.testing.assert_allclose(np.mean(value_parts), whole, rtol=1e-6)
    # The step averages the devices' gradients of shared parameters: so here, a quarter each.
    np.testing.assert_allclose(
        np.asarray(gradient_parts).reshape(12, 3) / 4, gradient, rtol=1e-5, atol=1e-7
    )


SHARES = np.array([0.5, 0.3, 0.2])
# Losses that correct for what is sampled; the others need the images that there are.
OF_PRIOR = {
    "logit_adjustment": losses.logit_adjustment_transform,
    "balanced_softmax": losses.balanced_softmax_transform,
    "lade": losses.lade_transform,
    "seesaw": losses.seesaw_transform,
}
OF_COUNTS = {
    "ldam": losses.ldam_transform,
    "equalization": losses.equalization_transform,
    "inverse": losses.inverse_frequency_transform,
    "class_balanced": losses.class_balanced_transform,
    "label_aware": losses.label_aware_smoothing_transform,
}


@pytest.mark.parametrize("name", [*OF_PRIOR, *OF_COUNTS])
def test_which_losses_use_the_prior_and_which_the_counts(name):
    transform = {**OF_PRIOR, **OF_COUNTS}[name]()
    found = chain(transform).init(COUNTS, SHARES)
    expected = (transform.init(SHARES if name in OF_PRIOR else COUNTS),)
    other = (transform.init(COUNTS if name in OF_PRIOR else SHARES),)
    if name == "equalization":  # beside a key
        found, expected, other = found[0][:1], expected[0][:1], other[0][:1]
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, found, other)))


def test_vector_scaling_shifts_by_the_prior_and_scales_by_the_counts():
    scale, shift = losses.vector_scaling_transform(0.5, 1.0).init(COUNTS, SHARES)
    np.testing.assert_allclose(scale, (COUNTS / 100) ** 0.5, rtol=1e-6)
    np.testing.assert_allclose(shift, np.log(SHARES), rtol=1e-6)


@pytest.mark.parametrize("make", [losses.logit_adjustment_transform, losses.lade_transform])
def test_a_prior_by_epoch(make):
    rows = np.array([[0.8, 0.15, 0.05], [0.6, 0.2, 0.2], [1 / 3] * 3])
    inputs, transform = make_inputs(), chain(make(), losses.drw_transform(7))
    changing = by_epoch(transform, steps_per_epoch=4)
    state = changing.init(COUNTS, rows)

    def of_step(step):
        return batch_loss(changing, inputs, state, step=step, bet=None)

    for step, epoch in ((0, 0), (3, 0), (4, 1), (8, 2), (100, 2)):
        fixed = transform.init(COUNTS, rows[epoch])
        expected = batch_loss(transform, inputs, fixed, step=step, bet=None)
        assert of_step(step) == expected
        np.testing.assert_allclose(jax.jit(of_step)(jnp.asarray(step)), expected, rtol=1e-6)


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
