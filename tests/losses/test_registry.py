"""The loss that a configuration names: every name builds, bad settings say which key."""

import dataclasses
import inspect

import jax
import numpy as np
import pytest

from ltjax import losses
from ltjax.errors import options_of
from ltjax.losses import LossConfig, RunFacts, batch_loss, bet_weights, loss_inputs, make_loss
from ltjax.losses.registry import LOSSES, MODULATIONS, SMOOTHINGS, WEIGHTINGS

COUNTS = np.array([400, 90, 20, 5])
PLAIN = LossConfig("cross_entropy", weighting="none", modulation="none", smoothing="none")
COSINE = RunFacts(total_steps=10, head="cosine", head_scale=16.0)


def config(**changes):
    return dataclasses.replace(PLAIN, **changes)


def draw():
    rng = np.random.default_rng(7)
    return rng.normal(size=(12, 4)).astype(np.float32), rng.integers(0, 4, 12)


def gradient(loss, step=9):
    z, y = draw()
    bet, state = bet_weights(np.arange(12) >= 8), loss.init(COUNTS)
    features = np.random.default_rng(8).normal(size=(12, 5)).astype(np.float32)
    return jax.grad(
        lambda z: batch_loss(loss, loss_inputs(z, y, features), state, step=step, bet=bet)
    )(z)


TABLES = {
    "name": LOSSES,
    "weighting": WEIGHTINGS,
    "smoothing": SMOOTHINGS,
    "modulation": MODULATIONS,
}


# At strength 1: the same up to a shift of the logits.
ALIKE = {"balanced_softmax": "logit_adjustment"}


@pytest.mark.parametrize("key", TABLES)
def test_every_name_has_its_own_gradient(key):
    seen = {}
    for name in TABLES[key]:
        grad = gradient(make_loss(config(**{key: name}), COSINE))
        assert np.isfinite(grad).all()
        if name in ALIKE:
            np.testing.assert_allclose(grad, seen[ALIKE[name]], rtol=1e-4, atol=1e-6)
            continue
        assert all(np.abs(grad - other).max() > 1e-5 for other in seen.values()), name
        seen[name] = grad


def test_deferred_weights_start_at_their_share_of_the_steps():
    drw = make_loss(config(weighting="drw", drw_start=0.8, weighted_mean=False), COSINE)
    weighted, plain = make_loss(config(weighting="class_balanced")), make_loss(PLAIN)
    np.testing.assert_allclose(gradient(drw, 7), gradient(plain), rtol=1e-6)
    np.testing.assert_allclose(gradient(drw, 8), gradient(weighted), rtol=1e-6)


@pytest.mark.parametrize(("weighting", "factor"), [("drw", True), ("class_balanced", False)])
def test_deferred_weights_are_averaged_by_weight_and_class_balanced_ones_by_example(
    weighting, factor
):
    """The gradients differ by the batch's mean weight: Cao et al., and Cui et al."""
    _, y = draw()
    other = make_loss(config(weighting="drw", weighted_mean=False), COSINE)
    w = losses.class_balanced_weights(COUNTS)[y]
    found = gradient(make_loss(config(weighting=weighting), COSINE))
    bet = bet_weights(np.arange(12) >= 8)
    mean = float(np.mean(bet * w)) if factor else 1.0
    np.testing.assert_allclose(found * mean, gradient(other), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weighting", ["inverse", "drw"])
def test_every_kind_composes(name, weighting):
    loss = make_loss(
        config(name=name, weighting=weighting, modulation="focal", smoothing="label_aware"), COSINE
    )
    assert np.isfinite(gradient(loss)).all()


BAD = {
    "loss": ({"name": "x"}, {}, r"loss.name = 'x'"),
    "auto": ({"name": "auto"}, {}, r"loss.name = 'auto' is not allowed; use one of cross_entropy"),
    "head": ({"name": "ldam"}, {}, "model.head = linear is meaningless"),
    "mixing": ({"name": "seesaw"}, {"mixing": "mixup"}, "a mixed image has two"),
    "beta": ({"weighting": "class_balanced", "beta": 1.0}, {}, "loss.beta = 1.0"),
    "smoothing": ({"smoothing": "x"}, {}, "loss.smoothing = 'x'"),
    "weighting": ({"weighting": "x"}, {}, "loss.weighting = 'x'"),
    "modulation": ({"modulation": "x"}, {}, "loss.modulation = 'x'"),
    "sigmoid": (
        {"name": "balanced_softmax", "modulation": "sigmoid_focal"},
        {},
        "changes a softmax, and there is none; use loss.name = cross_entropy",
    ),
    "sigmoid mixing": ({"modulation": "sigmoid_focal"}, {"mixing": "remix"}, "a mixed image has"),
    "sigmoid paco": (
        {"modulation": "sigmoid_focal", "contrastive": 1.0, "contrast": "paco"},
        {},
        "adds examples to the softmax of the classifier, and there is none",
    ),
    "gamma": ({"modulation": "focal", "focal_gamma": -1.0}, {}, "loss.focal_gamma = -1.0"),
    "embedded": ({"embedded_weight": 2.0}, {}, "loss.embedded_weight = 2.0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings(case):
    changes, facts, words = BAD[case]
    with pytest.raises(ValueError, match=words):
        make_loss(config(**changes), RunFacts(**facts))


def test_functions_and_configuration_have_one_default():
    """An option's default is written once; here by the functions that a user calls."""
    defaults = {name: option.default for name, option in options_of(LossConfig).items()}
    for function, names in {
        losses.logit_adjusted_cross_entropy: {"tau": "tau"},
        losses.vector_scaling: {"gamma": "vs_gamma", "tau": "tau"},
        losses.ldam: {"max_margin": "max_margin"},
        losses.lade: {"alpha": "lade_alpha", "penalty": "lade_penalty"},
        losses.seesaw: {"floor": "seesaw_floor"},
        losses.sigmoid_focal: {"gamma": "focal_gamma"},
        losses.equalization: {
            "threshold": "equalization_threshold",
            "probability": "equalization_probability",
        },
        losses.class_balanced_weights: {"beta": "beta"},
        losses.drw_transform: {"beta": "beta"},
        losses.influence_balanced: {"alpha": "influence_alpha"},
        losses.influence_balanced_transform: {"alpha": "influence_alpha"},
        losses.focal: {"gamma": "focal_gamma"},
        losses.label_smoothing: {"epsilon": "smoothing_epsilon"},
        losses.label_aware_smoothing: {"head": "smoothing_head", "tail": "smoothing_tail"},
        losses.bet_weights: {"weight": "embedded_weight"},
        losses.balanced_contrastive: {"temperature": "temperature"},
        losses.probabilistic_contrastive: {"temperature": "temperature"},
        losses.parametric_contrastive: {
            "alpha": "paco_alpha",
            "beta": "paco_beta",
            "gamma": "paco_gamma",
            "temperature": "temperature",
        },
    }.items():
        parameters = inspect.signature(function).parameters
        for own, key in names.items():
            assert parameters[own].default == defaults[key], (function.__name__, own)
