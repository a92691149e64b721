"""Known limits of the losses, schedules, random draws and soft targets."""

import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import losses
from ltjax.losses import LossInputs, batch_loss, chain, loss_inputs

COUNTS = jnp.array([400, 90, 20, 5])


def inputs(scale=3.0, soft=False):
    rng = np.random.default_rng(7)
    logits = jnp.asarray(rng.normal(size=(12, 4)) * scale, jnp.float32)
    labels = jnp.asarray(rng.integers(0, 4, 12))
    targets = jnp.asarray(rng.dirichlet(np.ones(4), 12), jnp.float32) if soft else labels
    return loss_inputs(logits, targets)


def value(transform, given: LossInputs, step=0, bet=None):
    return float(batch_loss(transform, given, transform.init(COUNTS), step=step, bet=bet))


LIMITS = {
    "LDAM, margin 0 = scaled CE": (
        losses.ldam_transform(0.0, 30.0),
        lambda x: value(losses.identity(), x._replace(logits=30.0 * x.logits)),
    ),
    "VS, gamma 0 = LA": (
        losses.vector_scaling_transform(0.0, 0.8),
        lambda x: value(losses.logit_adjustment_transform(0.8), x),
    ),
    "focal, gamma 0 = CE": (losses.focal_transform(0.0), lambda x: value(losses.identity(), x)),
    "LA, tau 0 = CE": (
        losses.logit_adjustment_transform(0.0),
        lambda x: value(losses.identity(), x),
    ),
    "LA, tau 1 = balanced softmax": (
        losses.logit_adjustment_transform(1.0),
        lambda x: value(losses.balanced_softmax_transform(), x),
    ),
    "class-balanced, beta 0 = CE": (
        losses.class_balanced_transform(0.0),
        lambda x: value(losses.identity(), x),
    ),
    "class-balanced, beta to 1 = inverse frequency": (
        losses.class_balanced_transform(1 - 1e-9),
        lambda x: value(losses.inverse_frequency_transform(weighted_mean=False), x),
    ),
    "inverse frequency, power 0 = CE": (
        losses.inverse_frequency_transform(0.0),
        lambda x: value(losses.identity(), x),
    ),
    "LADE, alpha 0 = balanced softmax": (
        losses.lade_transform(0.0),
        lambda x: value(losses.balanced_softmax_transform(), x),
    ),
    "equalization, no rare class = CE": (
        losses.equalization_transform(0.0),
        lambda x: value(losses.identity(), x),
    ),
    "equalization, probability 0 = CE": (
        losses.equalization_transform(2.0, 0.0),
        lambda x: value(losses.identity(), x),
    ),
    "seesaw, p = q = 0 = CE": (
        losses.seesaw_transform(0.0, 0.0),
        lambda x: value(losses.identity(), x),
    ),
    "smoothing 0 = CE": (
        losses.label_smoothing_transform(0.0),
        lambda x: value(losses.identity(), x),
    ),
    "label-aware, equal = uniform over the others": (
        losses.label_aware_smoothing_transform(0.3, 0.3),
        lambda x: value(losses.label_smoothing_transform(0.4), x),
    ),
}


def test_bet_of_the_kinds_shares_is_the_mean():
    bet = losses.bet_weights(np.arange(12) >= 8, 4 / 12)
    given = inputs()
    plain = value(losses.identity(), given)
    assert value(losses.identity(), given, bet=bet) == pytest.approx(plain, rel=2e-6)


@pytest.mark.parametrize("limit", LIMITS)
def test_limit(limit):
    transform, expected = LIMITS[limit]
    given = inputs()
    np.testing.assert_allclose(value(transform, given), expected(given), rtol=2e-6)


def test_balanced_softmax_shifts_all_logits_of_logit_adjustment_alike():
    la = losses.logit_adjustment_transform().init(COUNTS)
    difference = losses.balanced_softmax_transform().init(COUNTS) - la
    np.testing.assert_allclose(difference, np.log(515), rtol=1e-6)


@pytest.mark.parametrize(
    "make", [losses.ldam_transform, losses.label_aware_smoothing_transform], ids=["ldam", "smooth"]
)
def test_a_class_without_images_changes_no_constant_of_the_others(make):
    constants = make().init(jnp.array([400, 100, 25]))
    more = make().init(jnp.array([400, 100, 25, 0]))
    np.testing.assert_allclose(more[:3], constants, rtol=1e-6)
    assert more[3] == more[2]


def test_deferred_weights_start_at_their_step():
    transform, given = losses.drw_transform(5, weighted_mean=False), inputs()
    plain, weighted = (
        value(losses.identity(), given),
        value(losses.class_balanced_transform(), given),
    )
    assert value(transform, given, 4) == pytest.approx(plain, rel=1e-6)
    assert value(transform, given, 5) == pytest.approx(weighted, rel=1e-6)
    half = losses.class_weights_transform(
        losses.class_balanced_weights, schedule=losses.ramp(0, 10)
    )
    assert value(half, given, 5) == pytest.approx((plain + weighted) / 2, rel=1e-6)


@pytest.mark.parametrize(
    "transform",
    [
        losses.logit_adjustment_transform(),
        losses.class_balanced_transform(),
        losses.focal_transform(2.0),
        losses.label_aware_smoothing_transform(),
        losses.label_smoothing_transform(),
        losses.lade_transform(0.0),
        chain(
            losses.label_smoothing_transform(),
            losses.class_balanced_transform(),
            losses.focal_transform(),
        ),
    ],
)
def test_soft_targets_mean_the_same(transform):
    """One-hot targets give the labels' loss, and the loss is linear in the targets."""
    given = inputs()
    hot = given._replace(targets=given.soft_targets())
    np.testing.assert_allclose(value(transform, hot), value(transform, given), rtol=2e-6)
    first, second = inputs(soft=True), hot
    mixed = first._replace(targets=0.25 * first.targets + 0.75 * second.targets)
    parts = 0.25 * value(transform, first) + 0.75 * value(transform, second)
    np.testing.assert_allclose(value(transform, mixed), parts, rtol=2e-6)


def test_equalization_draws_at_its_rate_and_anew_every_step():
    transform = losses.equalization_transform(0.5, 0.75)
    state = transform.init(COUNTS)
    given = loss_inputs(jnp.zeros((2000, 4)), jnp.zeros(2000, int))

    def left_out(step):
        return np.asarray(transform.apply(given, state, step=step).logits) < -1

    first, second = left_out(0), left_out(1)
    assert not first[:, :2].any()  # own class, and a frequent one
    np.testing.assert_allclose(first[:, 2:].mean(axis=0), 0.75, atol=0.04)
    assert (first != second).any()
    np.testing.assert_array_equal(first, left_out(0))
