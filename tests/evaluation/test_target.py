"""Scores under another class distribution: weights of the images, and adjusted predictions."""

import numpy as np
import pytest
from scipy.special import log_softmax

from ltjax.errors import InputError
from ltjax.evaluation.calibration import Correction
from ltjax.evaluation.scores import scores, tally
from ltjax.evaluation.target import importance_weights, to_prior, under_prior

COUNTS = np.array([200, 50, 5])


def test_a_weight_of_two_is_an_image_twice():
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(3, size=40), rng.normal(size=(40, 3))
    weights = rng.integers(0, 3, size=40)
    weighted = tally(labels, logits, weights=weights.astype(float))
    repeated = tally(np.repeat(labels, weights), np.repeat(logits, weights, axis=0))
    for one, other in zip(weighted, repeated, strict=True):
        np.testing.assert_allclose(one, other)


def test_the_distribution_of_the_test_images_changes_nothing():
    rng = np.random.default_rng(0)
    labels, logits = np.repeat([0, 1, 2], [20, 10, 5]), rng.normal(size=(35, 3))
    found = under_prior(labels, logits, COUNTS, np.array([20, 10, 5]))
    expected = scores(tally(labels, logits), COUNTS)
    assert found.keys() == {"as_they_are"}
    for name, value in found["as_they_are"].items():
        assert value == pytest.approx(expected[name])


def test_shares_are_those_of_tested_classes():
    weights = importance_weights(np.array([0, 0, 1]), np.array([0.2, 0.2, 0.6]))
    np.testing.assert_allclose(weights, [0.75, 0.75, 1.5])
    weights = importance_weights(np.array([0, 0, 1]), np.array([0.2, 0.2, 0.6, 99.0]))
    np.testing.assert_allclose(weights[:2].sum() / weights.sum(), 0.5)
    with pytest.raises(InputError, match="a share above 0 of some tested class"):
        importance_weights(np.array([0, 0]), np.array([0.0, 1.0]))


def test_adjusted_logits_are_those_of_bayes():
    """Of Gaussians, whose posterior under any prior is known."""
    rng = np.random.default_rng(0)
    x, means = rng.normal(size=(50, 1)) * 3, np.array([[-1.0, 0.0, 2.0]])
    likelihood, prior = -((x - means) ** 2) / 2, np.array([[0.7, 0.2, 0.1]])
    share = (COUNTS / COUNTS.sum())[None]
    trained = 2 * (likelihood + np.log(share))  # overconfident, and for the training set
    found = to_prior(trained, COUNTS, Correction(2.0, 2.0), prior[0])
    expected = log_softmax(likelihood + np.log(prior), axis=1)
    np.testing.assert_allclose(log_softmax(found, axis=1), expected, atol=1e-12)
    assert np.isfinite(to_prior(trained, COUNTS, Correction(), np.array([1, 0, 0]))).all()
