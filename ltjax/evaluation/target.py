"""Scores under another class distribution than that of the test images.

The images of a class are taken to look the same whatever their number (label shift). Each test
image of class c then weighs `rho_c / s_c`, where `rho` is the class distribution of interest and
`s` that of the test images, and predictions can be adjusted to it:

    log p(y | x) = (z_y - tau log pi_y) / T + log rho_y + const

`tau` and `T` are those that make the logits `z` fit balanced classes, fitted on held-out images
(`ltjax.evaluation.calibration`), and `pi` is the class distribution of the training set.
"""

from typing import Any

import numpy as np

from ltjax.errors import require
from ltjax.evaluation.calibration import Correction, correct
from ltjax.evaluation.scores import scores, tally

# The scores that are shown; the accuracies of the groups are the same under any distribution.
SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "ece")
# The smallest share of a class in an adjustment; one of 0 would give infinite logits.
SMALLEST_SHARE = 1e-9


def importance_weights(labels: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Weights of the test images under a class distribution; their mean is 1.

        w_i = rho_c / s_c,    c = y_i,    s_c = N_c / N

    Args:
      labels: int `[N]`.
      prior: `rho`, `[C]`, shares or counts; classes without test images are left out of it.

    Returns:
      float64 `[N]`.

    Raises:
      InputError: no tested class has a share.

    Source: Saerens et al. (Neural Computation 2002), https://doi.org/10.1162/089976602753284446.

    >>> importance_weights(np.array([0, 0, 0, 1]), np.array([1, 1])).round(3).tolist()
    [0.667, 0.667, 0.667, 2.0]
    """
    number = np.bincount(labels, minlength=len(prior))
    share = np.where(number > 0, np.asarray(prior, np.float64), 0.0)
    require(share.sum() > 0, "class prior", share.sum(), "a share above 0 of some tested class")
    weight = share / share.sum() * len(labels) / np.maximum(number, 1)
    return np.asarray(weight[labels])


def to_prior(
    logits: np.ndarray, class_counts: np.ndarray, balanced: Correction, prior: np.ndarray
) -> np.ndarray:
    """Logits adjusted to a class distribution.

    Args:
      logits: float `[N, C]`.
      class_counts: int `[C]`, training images per class.
      balanced: makes the logits fit balanced classes.
      prior: `rho`, `[C]`, shares or counts.

    Returns:
      float64 `[N, C]`, whose softmax are the class probabilities.

    Source: see `importance_weights`.

    >>> z, counts, prior = np.zeros((1, 2)), np.array([1, 1]), np.array([3, 1])
    >>> to_prior(z, counts, Correction(), prior).round(3).tolist()
    [[-0.288, -1.386]]
    """
    share = np.asarray(prior, np.float64) / np.sum(prior)
    return correct(logits, class_counts, balanced) + np.log(np.maximum(share, SMALLEST_SHARE))[None]


def under_prior(
    labels: np.ndarray,
    logits: np.ndarray,
    class_counts: np.ndarray,
    prior: np.ndarray,
    *,
    temperature: float = 1.0,
    balanced: Correction | None = None,
    **groups: int,
) -> dict[str, dict[str, Any]]:
    """Test scores under a class distribution, of the predictions as they are and adjusted to it.

    Args:
      labels: int `[N]`.
      logits: float `[N, C]`.
      class_counts: int `[C]`, training images per class.
      prior: `rho`, `[C]`, shares or counts.
      temperature: of the predictions as they are.
      balanced: see `to_prior`; None where no image was held out to fit it.
      **groups: thresholds of the shot groups, `many_above` and `few_below`.

    Returns:
      JSON: the scores `as_they_are` and, where they can be, `adjusted`.
    """
    weights = importance_weights(labels, prior)
    each = {"as_they_are": logits / temperature}
    if balanced is not None:
        each["adjusted"] = to_prior(logits, class_counts, balanced, prior)
    found = {}
    for name, z in each.items():
        found[name] = scores(tally(labels, z, weights=weights), class_counts, **groups)
        del found[name]["per_class"]
    return found


def usual_priors(class_counts: np.ndarray) -> dict[str, np.ndarray]:
    """The class distributions that every run is looked at under.

    Args:
      class_counts: int `[C]`, training images per class.
    """
    return {"uniform": np.ones(len(class_counts)), "train": np.asarray(class_counts, np.float64)}
