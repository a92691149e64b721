"""Known limits of the losses, what may not be combined, schedules and soft targets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import losses
from ltjax.losses import LossInputs, batch_loss, chain, loss_inputs, make_loss

COUNTS = jnp.array([400, 90, 20, 5])


def inputs(scale=3.0, soft=False):
    rng = np.random.default_rng(7)
    logits = jnp.asarray(rng.normal(size=(12, 4)) * scale, jnp.float32)
    labels = jnp.asarray(rng.integers(0, 4, 12))
    targets = jnp.asarray(rng.dirichlet(np.ones(4), 12), jnp.float32) if soft else labels
    return loss_inputs(logits, targets, np.arange(12) >= 8)


def value(transform, given: LossInputs, step=0):
    return float(batch_loss(transform, given, transform.init(COUNTS), step=step))


LIMITS = {
    "LDAM, margin 0 = scaled CE": (
        losses.ldam(0.0, 30.0),
        lambda x: value(losses.identity(), x._replace(logits=30.0 * x.logits)),
    ),
    "VS, gamma 0 = LA": (
        losses.vector_scaling(0.0, 0.8),
        lambda x: value(losses.logit_adjustment(0.8), x),
    ),
    "focal, gamma 0 = CE": (losses.focal(0.0), lambda x: value(losses.identity(), x)),
    "LA, tau 0 = CE": (losses.logit_adjustment(0.0), lambda x: value(losses.identity(), x)),
    "LA, tau 1 = balanced softmax": (
        losses.logit_adjustment(1.0),
        lambda x: value(losses.balanced_softmax(), x),
    ),
    "class-balanced, beta 0 = CE": (
        losses.class_balanced(0.0),
        lambda x: value(losses.identity(), x),
    ),
    "class-balanced, beta to 1 = inverse frequency": (
        losses.class_balanced(1 - 1e-9),
        lambda x: value(losses.weighted(), x),
    ),
    "inverse frequency, power 0 = CE": (
        losses.weighted(0.0),
        lambda x: value(losses.identity(), x),
    ),
    "LADE, alpha 0 = balanced softmax": (
        losses.lade(0.0),
        lambda x: value(losses.balanced_softmax(), x),
    ),
    "equalization, no rare class = CE": (
        losses.equalization(0.0),
        lambda x: value(losses.identity(), x),
    ),
    "equalization, probability 0 = CE": (
        losses.equalization(2.0, 0.0),
        lambda x: value(losses.identity(), x),
    ),
    "seesaw, p = q = 0 = CE": (losses.seesaw(0.0, 0.0), lambda x: value(losses.identity(), x)),
    "smoothing 0 = CE": (losses.label_smoothing(0.0), lambda x: value(losses.identity(), x)),
    "label-aware, equal = uniform over the others": (
        losses.label_aware_smoothing(0.3, 0.3),
        lambda x: value(losses.label_smoothing(0.4), x),
    ),
    "BET, weight 8/12 : 4/12 = CE": (
        losses.batch_embedded(4 / 12),
        lambda x: value(losses.identity(), x),
    ),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_limit(limit):
    transform, expected = LIMITS[limit]
    given = inputs()
    np.testing.assert_allclose(value(transform, given), expected(given), rtol=2e-6)


def test_balanced_softmax_shifts_all_logits_of_logit_adjustment_alike():
    la = losses.logit_adjustment().init(COUNTS)
    difference = losses.balanced_softmax().init(COUNTS) - la
    np.testing.assert_allclose(difference, np.log(515), rtol=1e-6)


def test_posthoc_undoes_the_loss():
    given = inputs()
    shifted = losses.logit_adjustment(0.7).apply(given, 0.7 * losses.log_prior(COUNTS), step=0)
    np.testing.assert_allclose(
        losses.adjusted_logits(shifted.logits, COUNTS, 0.7), given.logits, atol=2e-6
    )


def test_deferred_weights_start_at_their_step():
    transform, given = losses.drw(5), inputs()
    plain, weighted = value(losses.identity(), given), value(losses.class_balanced(), given)
    assert value(transform, given, 4) == pytest.approx(plain, rel=1e-6)
    assert value(transform, given, 5) == pytest.approx(weighted, rel=1e-6)
    half = losses.class_weights(losses.effective_number(), schedule=losses.ramp(0, 10))
    assert value(half, given, 5) == pytest.approx((plain + weighted) / 2, rel=1e-6)


@pytest.mark.parametrize(
    "transform",
    [
        losses.logit_adjustment(),
        losses.class_balanced(),
        losses.focal(2.0),
        losses.label_aware_smoothing(),
        losses.label_smoothing(),
        losses.lade(0.0),
        chain(losses.label_smoothing(), losses.class_balanced(), losses.focal()),
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


REFUSED = {
    "prior twice": (losses.logit_adjustment, losses.balanced_softmax, "corrected twice"),
    "seesaw and prior": (losses.seesaw, losses.vector_scaling, "corrected twice"),
    "prior before margin": (losses.logit_adjustment, losses.ldam, "exchange the two"),
    "margin after smoothing": (losses.label_smoothing, losses.ldam, "one class an example"),
    "seesaw after smoothing": (losses.label_smoothing, losses.seesaw, "one class an example"),
    "smoothing twice": (losses.label_smoothing, losses.label_aware_smoothing, "smooth once"),
    "smoothing after weights": (losses.weighted, losses.label_smoothing, "spread weights"),
    "weights twice": (losses.weighted, losses.class_balanced, "weighted twice"),
    "focal before prior": (losses.focal, losses.logit_adjustment, "change after it"),
    "embedded twice": (losses.batch_embedded, losses.batch_embedded, "weighted twice"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_meaningless_chains_are_refused_with_a_reason(case):
    first, second, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        chain(first(), second())
    with pytest.raises(ValueError, match=words):
        chain(chain(losses.identity(), first()), second())


def test_one_class_losses_refuse_mixed_targets():
    for transform in (losses.ldam(), losses.seesaw(), losses.equalization()):
        with pytest.raises(ValueError, match="needs one class an example"):
            value(transform, inputs(soft=True))


@pytest.mark.parametrize("name", ["logit_adjustment", "vs", "lade", "ldam", "seesaw"])
@pytest.mark.parametrize("weighting", ["inverse", "drw"])
def test_every_kind_composes(name, weighting):
    loss = make_loss(
        name=name,
        weighting=weighting,
        modulation="focal",
        smoothing="label_aware",
        embedded=True,
        head="cosine",
        head_scale=16.0,
    )
    gradient = jax.grad(
        lambda z: batch_loss(loss, inputs()._replace(logits=z), loss.init(COUNTS), step=0)
    )(inputs().logits)
    assert np.isfinite(gradient).all()


BAD = {
    "loss": ({"name": "x"}, r"loss.name = 'x'"),
    "head": ({"name": "ldam"}, "model.head = linear is meaningless"),
    "mixing": ({"name": "seesaw", "mixing": "mixup"}, "a mixed image has two"),
    "beta": ({"name": "cross_entropy", "weighting": "class_balanced", "beta": 1.0}, "beta = 1.0"),
    "smoothing": ({"name": "cross_entropy", "smoothing": "x"}, "loss.smoothing = 'x'"),
    "weighting": ({"name": "cross_entropy", "weighting": "x"}, "loss.weighting = 'x'"),
    "modulation": ({"name": "cross_entropy", "modulation": "x"}, "loss.modulation = 'x'"),
    "gamma": (
        {"name": "cross_entropy", "modulation": "focal", "focal_gamma": -1.0},
        "focal_gamma = -1.0",
    ),
    "embedded": (
        {"name": "cross_entropy", "embedded": True, "embedded_weight": 2.0},
        "embedded_weight = 2.0",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings(case):
    settings, words = BAD[case]
    with pytest.raises(ValueError, match=words):
        make_loss(**settings)


def test_equalization_draws_at_its_rate_and_anew_every_step():
    transform = losses.equalization(0.5, 0.75)
    state = transform.init(COUNTS)
    given = loss_inputs(jnp.zeros((2000, 4)), jnp.zeros(2000, int), jnp.zeros(2000, bool))

    def left_out(step):
        return np.asarray(transform.apply(given, state, step=step).logits) < -1

    first, second = left_out(0), left_out(1)
    assert not first[:, :2].any()  # own class, and a frequent one
    np.testing.assert_allclose(first[:, 2:].mean(axis=0), 0.75, atol=0.04)
    assert (first != second).any()
    np.testing.assert_array_equal(first, left_out(0))


@pytest.mark.parametrize("make", [losses.lade, losses.equalization], ids=["lade", "equalization"])
def test_devices_agree_with_one(devices, make):
    given = inputs()

    def local(z, targets, flags, axis_name="d"):
        transform = make(axis_name=axis_name)
        state = transform.init(COUNTS)
        return jax.value_and_grad(
            lambda z: batch_loss(transform, loss_inputs(z, targets, flags), state, step=3)
        )(z)

    def split(x):
        return np.asarray(x).reshape(4, 3, *x.shape[1:])

    arrays = (given.logits, given.targets, given.embedded)
    value_parts, gradient_parts = jax.pmap(local, axis_name="d")(*map(split, arrays))
    whole, gradient = local(*arrays, axis_name=None)
    np.testing.assert_allclose(np.mean(value_parts), whole, rtol=1e-6)
    # The step averages the devices' gradients of shared parameters: so here, a quarter each.
    np.testing.assert_allclose(
        np.asarray(gradient_parts).reshape(12, 4) / 4, gradient, rtol=1e-5, atol=1e-7
    )
