"""Post-hoc corrections of logits, fitted on images held out of training, never on test images.

    calibrated = (z - tau log pi) / T

Both numbers minimize the class-balanced negative log likelihood of the held-out images, which
is convex in `tau` and in `1 / T`; each class weighs the same, as in a balanced test set.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from ltjax.errors import require
from ltjax.losses import adjusted_logits

# In units of T, so that logits of any scale have the same range.
TAU_RANGE = (-1.0, 3.0)
TEMPERATURE_RANGE = (0.01, 1000.0)
# When a fit ends: at changes of the loss, as a share of it, or at slopes that are as small as this.
PRECISE = {"ftol": 1e-15, "gtol": 1e-8}


class Correction(NamedTuple):
    """A correction of logits; `Correction(0, 1)` changes nothing.

    Attributes:
      tau: strength of the logit adjustment.
      temperature: what the adjusted logits are divided by.
    """

    tau: float = 0.0
    temperature: float = 1.0


def correct(logits: np.ndarray, class_counts: np.ndarray, correction: Correction) -> np.ndarray:
    """Corrects logits: `(z - tau log pi) / T`, with `pi_c = n_c / sum n`.

    Args:
      logits: float `[N, C]`.
      class_counts: int `[C]`, training images per class; no images count as one image.
      correction: tau and T.

    Returns:
      float64 `[N, C]`.

    Source: logit adjustment: Menon et al. (ICLR 2021), https://arxiv.org/abs/2007.07314;
    temperature scaling: Guo et al. (ICML 2017), https://arxiv.org/abs/1706.04599.

    >>> correct(np.array([[1.0, 1.0]]), np.array([1, 1]), Correction(0.0, 2.0)).tolist()
    [[0.5, 0.5]]
    """
    z = np.asarray(logits, np.float64)
    if correction.tau:
        z = np.asarray(adjusted_logits(z, np.asarray(class_counts), correction.tau))
    return z / correction.temperature


def balanced_nll(labels: np.ndarray, logits: np.ndarray) -> float:
    """Class-balanced negative log likelihood.

        NLL = (1 / |K|) sum_{c in K} (1 / N_c) sum_{i : y_i = c} -log softmax(z_i)_c

    `K` are the classes that occur among the labels, `N_c` their numbers of images.

    Args:
      labels: int `[N]`.
      logits: float `[N, C]`.

    Returns:
      The negative log likelihood in nats.

    Source: ours.

    >>> round(balanced_nll(np.array([0, 0, 1]), np.zeros((3, 2))), 4)
    0.6931
    """
    log_p = log_softmax(np.asarray(logits, np.float64), axis=1)
    own = np.take_along_axis(log_p, np.asarray(labels)[:, None], axis=1)[:, 0]
    number = np.bincount(labels)
    share = 1.0 / (number[labels] * (number > 0).sum())
    return float(-(share * own).sum())


def fit(
    labels: np.ndarray, logits: np.ndarray, class_counts: np.ndarray, *, adjust: bool = True
) -> Correction:
    """Fits a correction of logits: `tau` and `T`, which together minimize `balanced_nll`.

    `tau / T` is searched in `TAU_RANGE`, and `log T` in the logarithm of `TEMPERATURE_RANGE`, by
    the gradient and from the scale of the logits: s times the logits give s times both numbers.

    Args:
      labels: int `[N]` of held-out training images.
      logits: float `[N, C]`, theirs.
      class_counts: int `[C]`, training images per class.
      adjust: whether to fit `tau`; otherwise it is 0.

    Returns:
      `tau` and `T`.

    Raises:
      InputError: there is no held-out image.

    Source: post-hoc logit adjustment: Menon et al. (ICLR 2021), https://arxiv.org/abs/2007.07314;
    temperature scaling: Guo et al. (ICML 2017), https://arxiv.org/abs/1706.04599. Giving each
    class the same weight is ours.
    """
    require(
        len(labels) > 0, "held-out images", 0, "at least 1: set data.validation_fraction above 0"
    )

    z = np.asarray(logits, np.float64)
    log_prior = -np.asarray(adjusted_logits(np.zeros((1, z.shape[1])), class_counts))[0]
    number, rows = np.bincount(labels), np.arange(len(labels))
    share = 1 / (number[labels] * (number > 0).sum())
    spread = z.std(axis=1).mean()

    def nll(point: np.ndarray) -> tuple[float, np.ndarray]:
        strength, log_t = point
        # In place: shifted logits, then probabilities, then what they miss of the labels.
        miss = z * np.exp(-log_t) - strength * log_prior
        miss -= miss.max(axis=1, keepdims=True)
        own = miss[rows, labels]
        total = np.exp(miss, out=miss).sum(axis=1)
        loss = share @ (np.log(total) - own)
        miss /= total[:, None]
        miss[rows, labels] -= 1
        miss *= share[:, None]
        slopes = -np.array([miss.sum(axis=0) @ log_prior, np.vdot(miss, z) * np.exp(-log_t)])
        return float(loss), slopes

    ranges = [TAU_RANGE if adjust else (0.0, 0.0), np.log(TEMPERATURE_RANGE)]
    begin = (0.0, np.clip(np.log(spread if spread > 0 else 1.0), *np.log(TEMPERATURE_RANGE)))
    found = minimize(nll, begin, jac=True, method="L-BFGS-B", bounds=ranges, options=PRECISE)
    strength, log_t = found.x
    return Correction(float(strength * np.exp(log_t)), float(np.exp(log_t)))
