"""What a finished run keeps of its test images besides the scores: enough to draw a report."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_softmax

from ltjax.evaluation.calibration import Correction, correct, fit
from ltjax.evaluation.scores import Tally, scores, tally


class HeldOut(NamedTuple):
    """Images held out of training, and what the network says of them.

    Attributes:
      labels: int `[N]`.
      logits: float `[N, C]`.
    """

    labels: np.ndarray
    logits: np.ndarray


def details(labels: np.ndarray, logits: np.ndarray, *, wrong: int = 24) -> dict[str, Any]:
    """Confusion matrix, reliability bins and the most confident errors.

    Args:
      labels: int `[N]`.
      logits: float `[N, C]`.
      wrong: largest number of errors to keep.

    Returns:
      JSON: `confusion` `[C][C]`, `reliability` (`images`, `confidence`, `correct`: sums per
      bin), and `confused`: `index`, `label`, `prediction`, `confidence` of each error kept, the
      most confident first.

    >>> details(np.array([0, 1]), np.array([[2.0, 0.0], [2.0, 0.0]]))["confused"][0]["index"]
    1
    """
    sums = tally(labels, logits)
    p = np.exp(log_softmax(np.asarray(logits, np.float64), axis=1))
    predictions, confidence = np.argmax(logits, axis=1), p.max(axis=1)
    missed = np.flatnonzero(predictions != labels)
    worst = missed[np.argsort(-confidence[missed], kind="stable")[:wrong]]
    return {
        "confusion": sums.confusion.astype(int).tolist(),
        "reliability": _bins(sums),
        "confused": [
            {
                "index": int(i),
                "label": int(labels[i]),
                "prediction": int(predictions[i]),
                "confidence": float(confidence[i]),
            }
            for i in worst
        ],
    }


def _bins(sums: Tally) -> dict[str, list[float]]:
    """The reliability bins of a tally as JSON."""
    names = ("images", "confidence", "correct")
    return {n: v.tolist() for n, v in zip(names, sums.reliability, strict=True)}


def fit_corrections(held_out: HeldOut, class_counts: np.ndarray) -> dict[str, Correction]:
    """Fits a temperature alone, and a logit adjustment with its temperature.

    Args:
      held_out: images held out of training.
      class_counts: int `[C]`, training images per class.

    Returns:
      The corrections by name: `temperature` and `logit_adjustment`.

    Raises:
      InputError: there is no held-out image.
    """
    return {
        name: fit(*held_out, class_counts, adjust=adjust)
        for name, adjust in (("temperature", False), ("logit_adjustment", True))
    }


def post_hoc(
    corrections: Mapping[str, Correction],
    labels: np.ndarray,
    logits: np.ndarray,
    class_counts: np.ndarray,
    **groups: int,
) -> dict[str, dict[str, Any]]:
    """Test scores after corrections of the logits.

    Args:
      corrections: by name, as `fit_corrections` gives them.
      labels: int `[N]`, of the test images.
      logits: float `[N, C]`, theirs.
      class_counts: int `[C]`, training images per class.
      **groups: thresholds of the shot groups, `many_above` and `few_below`.

    Returns:
      JSON: `tau`, `temperature`, the `test` scores and the `reliability` bins of each correction,
      by its name.
    """
    found = {}
    for name, by in corrections.items():
        sums = tally(labels, correct(logits, class_counts, by))
        test = scores(sums, class_counts, **groups)
        found[name] = by._asdict() | {"test": test, "reliability": _bins(sums)}
    return found
