"""Accuracy of a long-tailed classifier: overall, balanced, by shot group, per class."""

from typing import Any

import numpy as np

from ltjax.data.longtail import FEW_BELOW, MANY_ABOVE, shot_groups


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts the images of each pair of true and predicted class.

    Args:
      labels: int `[N]`.
      predictions: int `[N]`.
      num_classes: `C`.

    Returns:
      int64 `[C, C]`; row = true class, column = predicted class.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    pairs = np.asarray(labels) * num_classes + np.asarray(predictions)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def average(summaries: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Mean and sample standard deviation of several results of `summarize` or `scores`, key by key.

    Args:
      summaries: the results, one or more, with the same keys.

    Returns:
      The means and the standard deviations, each with the keys of one result; None where a result
      has None. The standard deviation of one result is 0.

    >>> average([{"few": 0.25, "per_class": [1.0]}, {"few": 0.75, "per_class": [1.0]}])[0]
    {'few': 0.5, 'per_class': [1.0]}
    """

    def reduce(function: Any, values: list[Any]) -> Any:
        if isinstance(values[0], list):
            return [reduce(function, list(column)) for column in zip(*values, strict=True)]
        return None if None in values else float(function(values))

    def spread(values: list[float]) -> float:
        return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0

    mean, std = (
        {k: reduce(f, [s[k] for s in summaries]) for k in summaries[0]} for f in (np.mean, spread)
    )
    return mean, std


def summarize(
    labels: np.ndarray,
    predictions: np.ndarray,
    class_counts: np.ndarray,
    *,
    many_above: int = MANY_ABOVE.default,
    few_below: int = FEW_BELOW.default,
) -> dict[str, Any]:
    """Accuracies from 0 to 1.

    `balanced_accuracy` is the mean of the accuracies per class over all classes that have test
    images, and `many`, `medium` and `few` are their means over the classes of each shot group.

    Args:
      labels: int `[N]`.
      predictions: int `[N]`.
      class_counts: int `[C]`, training images per class, which make the groups.
      many_above: classes with more training images than this are "many".
      few_below: classes with fewer training images than this are "few".

    Returns:
      `accuracy`, `balanced_accuracy`, `many`, `medium`, `few`, and the list `per_class`;
      None where a group or class has no test image.

    >>> out = summarize([0, 0, 1], [0, 1, 1], [200, 5])
    >>> out["balanced_accuracy"], out["medium"], out["per_class"]
    (0.75, None, [0.5, 1.0])
    """
    return accuracies(
        confusion_matrix(labels, predictions, len(class_counts)),
        np.asarray(class_counts),
        many_above=many_above,
        few_below=few_below,
    )


def accuracies(
    matrix: np.ndarray,
    class_counts: np.ndarray,
    *,
    many_above: int = MANY_ABOVE.default,
    few_below: int = FEW_BELOW.default,
) -> dict[str, Any]:
    """What `summarize` gives, from a confusion matrix.

    Args:
      matrix: `[C, C]`, images; row = true class, column = predicted class.
      class_counts: int `[C]`, training images per class, which make the groups.
      many_above: classes with more training images than this are "many".
      few_below: classes with fewer training images than this are "few".

    Returns:
      The keys of `summarize`.

    >>> accuracies(np.array([[1, 1], [0, 1]]), np.array([200, 5]))["balanced_accuracy"]
    0.75
    """
    totals = matrix.sum(axis=1)
    per_class = np.full(len(totals), np.nan)
    np.divide(np.diag(matrix), totals, out=per_class, where=totals > 0)
    groups = shot_groups(np.asarray(class_counts), many_above=many_above, few_below=few_below)

    def mean(values: np.ndarray) -> float | None:
        values = values[~np.isnan(values)]
        return float(values.mean()) if len(values) else None

    return {
        "accuracy": float(np.diag(matrix).sum() / totals.sum()) if totals.sum() else None,
        "balanced_accuracy": mean(per_class),
        **{name: mean(per_class[members]) for name, members in groups._asdict().items()},
        "per_class": [None if np.isnan(v) else float(v) for v in per_class],
    }
