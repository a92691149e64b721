"""What a finished run keeps of its test images beside the scores: enough to draw a report."""

from typing import Any, NamedTuple

import numpy as np

from ltjax.evaluation.calibration import Correction, correct, fit
from ltjax.evaluation.scores import log_softmax, scores, tally


class HeldOut(NamedTuple):
    """Labels `[N]` and logits `[N, C]` of images held out of training."""

    labels: np.ndarray
    logits: np.ndarray


def details(labels: np.ndarray, logits: np.ndarray, *, wrong: int = 24) -> dict[str, Any]:
    """Confusion matrix, reliability bins and the images that are most surely wrong.

    Args:
      labels: int `[N]`.
      logits: float `[N, C]`.
      wrong: how many of the wrong ones.

    Returns:
      JSON: `confusion` `[C][C]`, `reliability` (`images`, `confidence`, `correct`: sums per
      bin), and `confused`: `index`, `label`, `prediction`, `confidence`, the surest first.

    >>> details(np.array([0, 1]), np.array([[2.0, 0.0], [2.0, 0.0]]))["confused"][0]["index"]
    1
    """
    sums = tally(labels, logits)
    p = np.exp(log_softmax(logits))
    predictions, confidence = np.argmax(logits, axis=1), p.max(axis=1)
    missed = np.flatnonzero(predictions != labels)
    worst = missed[np.argsort(-confidence[missed], kind="stable")[:wrong]]
    names = ("images", "confidence", "correct")
    return {
        "confusion": sums.confusion.astype(int).tolist(),
        "reliability": {n: v.tolist() for n, v in zip(names, sums.reliability, strict=True)},
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


def post_hoc(
    held_out: HeldOut,
    labels: np.ndarray,
    logits: np.ndarray,
    class_counts: np.ndarray,
    **thresholds: int,
) -> dict[str, dict[str, Any]]:
    """Test scores after corrections that are fitted on the held-out training images.

    Args:
      held_out: what they are fitted on.
      labels: int `[N]`, of the test images.
      logits: float `[N, C]`, theirs.
      class_counts: int `[C]`, training images per class.
      **thresholds: of `scores`.

    Returns:
      `temperature` and `logit_adjustment` (with its temperature), each with `tau`,
      `temperature` and the `test` scores.
    """

    def corrected(by: Correction) -> dict[str, Any]:
        changed = correct(logits, class_counts, by)
        return by._asdict() | {"test": scores(tally(labels, changed), class_counts, **thresholds)}

    return {
        name: corrected(fit(*held_out, class_counts, adjust=adjust))
        for name, adjust in (("temperature", False), ("logit_adjustment", True))
    }
