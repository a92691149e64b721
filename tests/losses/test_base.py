"""Arguments of the losses: shapes and values that cannot be used, counts, the prior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import losses
from ltjax.losses.base import log_prior_in_numpy

Z, Y, N = np.zeros((2, 3), np.float32), np.array([0, 2]), [5, 2, 1]

BAD = {
    "targets' size": (
        lambda: losses.cross_entropy(Z, np.zeros(3, int)),
        r"targets of shape \(3,\)",
    ),
    "targets' type": (lambda: losses.cross_entropy(Z, np.zeros(2)), "and type float32 do not fit"),
    "probabilities": (
        lambda: losses.focal(Z, np.ones((2, 4))),
        r"use class numbers, int \(2,\), or probabilities \(2, 3\)",
    ),
    "counts": (
        lambda: losses.balanced_softmax(Z, Y, [5, 2]),
        r"class_counts.shape = \(2,\) is not allowed; use \(3,\)",
    ),
    "counts of lade": (lambda: losses.lade(Z, Y, [5]), r"class_counts.shape = \(1,\)"),
    "tau": (
        lambda: losses.logit_adjusted_cross_entropy(Z, Y, N, -1.0),
        "tau = -1.0 is not allowed",
    ),
    "vs": (lambda: losses.vector_scaling(Z, Y, N, gamma=-0.1), "gamma = -0.1"),
    "margin": (lambda: losses.ldam(Z, Y, N, -0.5), "max_margin = -0.5"),
    "scale": (lambda: losses.ldam(Z, Y, N, scale=0.0), "scale = 0.0"),
    "lade": (lambda: losses.lade(Z, Y, N, -0.1), "alpha = -0.1"),
    "penalty": (lambda: losses.lade(Z, Y, N, penalty=-0.1), "penalty = -0.1"),
    "threshold": (
        lambda: losses.equalization(Z, Y, N, -1, key=jax.random.key(0)),
        "threshold = -1",
    ),
    "probability": (
        lambda: losses.equalization(Z, Y, N, probability=2.0, key=jax.random.key(0)),
        "probability = 2.0",
    ),
    "p": (lambda: losses.seesaw(Z, Y, N, p=-1.0), "p = -1.0"),
    "q": (lambda: losses.seesaw(Z, Y, N, q=-1.0), "q = -1.0"),
    "beta": (lambda: losses.class_balanced_weights(N, 1.0), "beta = 1.0"),
    "focal": (lambda: losses.focal(Z, Y, -1.0), "gamma = -1.0"),
    "nan": (lambda: losses.focal(Z, Y, float("nan")), "gamma = nan"),
    "epsilon": (lambda: losses.label_smoothing(Z, Y, 1.1), "epsilon = 1.1"),
    "head": (lambda: losses.label_aware_smoothing(Z, Y, N, head=1.0), "head = 1.0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments(case):
    call, words = BAD[case]
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "loss",
    [
        losses.ldam,
        losses.seesaw,
        lambda z, y, n: losses.equalization(z, y, n, key=jax.random.key(0)),
    ],
    ids=["ldam", "seesaw", "equalization"],
)
def test_one_class_losses_refuse_probabilities(loss):
    with pytest.raises(ValueError, match="needs one class an example"):
        loss(Z, np.full((2, 3), 1 / 3, np.float32), N)


def test_probabilities_of_another_dtype_take_the_logits():
    soft = jnp.full((2, 3), 1 / 3, jnp.float16)
    out = losses.cross_entropy(Z, soft)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, np.log(3), rtol=1e-3)


def test_prior_of_shares_counts_a_class_without_images_as_the_rarest():
    expected = np.log(np.array([0.7, 0.2, 0.2, 0.1, 0.1]) / 1.3)
    shares = [0.7, 0.2, 0.2, 0.1, 0.0]
    np.testing.assert_allclose(losses.log_prior(shares), expected, rtol=1e-6)
    np.testing.assert_allclose(log_prior_in_numpy(shares), expected, rtol=1e-12)


def test_prior_counts_a_class_without_images_as_one_image():
    np.testing.assert_allclose(losses.log_prior([7, 0, 2]), np.log([0.7, 0.1, 0.2]), rtol=1e-6)
