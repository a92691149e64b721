"""Post-hoc corrections of logits, fitted on images held out of training, never on test images.

    calibrated = (z - tau log pi) / T

Both numbers minimise the class-balanced negative log likelihood of the held-out images, which
is convex in `tau` and in `1 / T`; its classes weigh alike, as those of the test set do.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ltjax.errors import require
from ltjax.evaluation.scores import log_softmax


class Correction(NamedTuple):
    """Strength of the logit adjustment and temperature; `Correction(0, 1)` changes nothing."""

    tau: float = 0.0
    temperature: float = 1.0


def correct(logits: np.ndarray, class_counts: np.ndarray, correction: Correction) -> np.ndarray:
    """`(z - tau log pi) / T`, float64 `[N, C]`.

    >>> correct(np.array([[1.0, 1.0]]), np.array([1, 1]), Correction(0.0, 2.0)).tolist()
    [[0.5, 0.5]]
    """
    counts = np.asarray(class_counts, np.float64)
    adjusted = np.asarray(logits, np.float64)
    if correction.tau:
        adjusted = adjusted - correction.tau * np.log(counts / counts.sum())[None, :]
    return adjusted / correction.temperature


def balanced_nll(labels: np.ndarray, logits: np.ndarray) -> float:
    """`-log p_y`, averaged in each class that occurs, then over those classes."""
    own = np.take_along_axis(log_softmax(logits), np.asarray(labels)[:, None], axis=1)[:, 0]
    number = np.bincount(labels)
    share = 1.0 / (number[labels] * (number > 0).sum())
    return float(-(share * own).sum())


def _minimise(function: Callable[[float], float], low: float, high: float) -> float:
    """Golden-section search of a unimodal function, to a millionth of the interval."""
    ratio = (np.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    at_a, at_b = function(a), function(b)
    for _ in range(30):
        if at_a <= at_b:
            high, b, at_b = b, a, at_a
            a = high - ratio * (high - low)
            at_a = function(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + ratio * (high - low)
            at_b = function(b)
    return float((low + high) / 2)


def fit(
    labels: np.ndarray, logits: np.ndarray, class_counts: np.ndarray, *, adjust: bool = True
) -> Correction:
    """Fits `tau` in [-1, 3] (at T = 1), then `T` in [0.05, 20].

    Args:
      labels: int `[N]` of held-out training images.
      logits: float `[N, C]`, theirs.
      class_counts: int `[C]`, training images per class.
      adjust: whether to fit `tau`; otherwise it is 0.

    Raises:
      InputError: no held-out image.

    Source: Menon et al. (ICLR 2021), post-hoc logit adjustment; Guo et al. (ICML 2017),
    temperature scaling. Weighing the classes alike is ours.
    """
    require(
        len(labels) > 0, "held-out images", 0, "at least 1: set data.validation_fraction above 0"
    )
    tau = 0.0
    if adjust:

        def of_tau(t: float) -> float:
            return balanced_nll(labels, correct(logits, class_counts, Correction(t)))

        tau = _minimise(of_tau, -1.0, 3.0)

    def of_log(u: float) -> float:
        t = float(np.exp(u))
        return balanced_nll(labels, correct(logits, class_counts, Correction(tau, t)))

    return Correction(tau, float(np.exp(_minimise(of_log, np.log(0.05), np.log(20.0)))))
