"""Every score of a long-tailed classifier, from sums over images that add over batches and hosts.

`tally` turns logits into sums, `Tally.merge` adds those of other batches or hosts, and `scores`
computes the scores from them; `intervals` resamples the images; `scores_of_seeds` summarizes a
run. Ties go to the lower class.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import log_softmax

from ltjax.data.longtail import FEW_BELOW, MANY_ABOVE, shot_groups
from ltjax.errors import InputError, require
from ltjax.evaluation.metrics import accuracies, average

BINS = 15


class Tally(NamedTuple):
    """Sums over images, float64; one more image adds to each.

    Attributes:
      confusion: `[C, C]`, row = true class, column = predicted class.
      top5: `[C]`, images of each class among whose five largest logits it is.
      nll: `[]`, `-log p_y`.
      reliability: `[3, BINS]`: images, sum of confidence and correct ones, by confidence.
      classwise: `[3, C, BINS]`: the same of every class's probability: images, sum of the
        probability and images of the class.
    """

    confusion: np.ndarray
    top5: np.ndarray
    nll: np.ndarray
    reliability: np.ndarray
    classwise: np.ndarray

    def merge(self, *others: "Tally") -> "Tally":
        """The tally of all the images together.

        Args:
          *others: tallies of other images.

        Returns:
          The sum of this tally and the others.
        """
        return Tally(*(np.sum(column, axis=0) for column in zip(self, *others, strict=True)))


class _Images(NamedTuple):
    """What a tally needs of each image, so that resampling it is a few weighted counts."""

    num_classes: int
    labels: np.ndarray
    predictions: np.ndarray
    top5: np.ndarray
    nll: np.ndarray
    confidence: np.ndarray
    probabilities: np.ndarray


def _images(labels: np.ndarray, logits: np.ndarray, mask: np.ndarray | None) -> _Images:
    labels, logits = np.asarray(labels), np.asarray(logits)
    require(
        logits.ndim == 2 and labels.shape == logits.shape[:1],
        "shapes of labels and logits",
        (labels.shape, logits.shape),
        "[N] and [N, C]",
    )
    if mask is not None:
        labels, logits = labels[np.asarray(mask, bool)], logits[np.asarray(mask, bool)]
    lost = int((~np.isfinite(logits)).any(axis=1).sum())
    if lost:
        raise InputError(
            f"the outputs for {lost} of {len(logits)} images are not finite: the training has "
            "diverged; lower config.optimizer.learning_rate or set config.optimizer.clip_norm"
        )
    log_p = log_softmax(np.asarray(logits, np.float64), axis=1)
    own = np.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
    ranked = np.argsort(-logits, axis=1, kind="stable")[:, :5]
    p = np.exp(log_p)
    return _Images(
        num_classes=logits.shape[1],
        labels=labels,
        predictions=np.argmax(logits, axis=1),
        top5=(ranked == labels[:, None]).any(axis=1),
        nll=-own,
        confidence=p.max(axis=1),
        probabilities=p,
    )


def _bin(p: np.ndarray) -> np.ndarray:
    """Number of the bin `(k / BINS, (k + 1) / BINS]` of each probability; 0 is in the first."""
    return np.clip(np.ceil(p * BINS).astype(np.int64) - 1, 0, BINS - 1)


def _tally(images: _Images, weights: np.ndarray) -> Tally:
    classes = images.num_classes

    def count(index: np.ndarray, of: np.ndarray, size: int) -> np.ndarray:
        return np.bincount(index.ravel(), weights=of.ravel(), minlength=size)

    right = weights * (images.labels == images.predictions)
    place = _bin(images.confidence)
    of_class = _bin(images.probabilities) + BINS * np.arange(classes)[None, :]
    own = np.take_along_axis(of_class, images.labels[:, None], axis=1)[:, 0]
    spread = np.broadcast_to(weights[:, None], of_class.shape)
    size = classes * BINS
    classwise = [
        count(of_class, spread, size),
        count(of_class, spread * images.probabilities, size),
        count(own, weights, size),
    ]
    pairs = images.labels * classes + images.predictions
    return Tally(
        confusion=count(pairs, weights, classes**2).reshape(classes, classes),
        top5=count(images.labels, weights * images.top5, classes),
        nll=np.asarray((weights * images.nll).sum()),
        reliability=np.stack(
            [count(place, w, BINS) for w in (weights, weights * images.confidence, right)]
        ),
        classwise=np.stack(classwise).reshape(3, classes, BINS),
    )


def tally(
    labels: np.ndarray,
    logits: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    weights: np.ndarray | None = None,
) -> Tally:
    """Sums over the images of a batch, of one host, or of all.

    Args:
      labels: int `[N]`.
      logits: float `[N, C]`.
      mask: bool `[N]`, False where a row is padding.
      weights: float `[N]`, of the images that are not; by default each counts 1.

    Returns:
      The sums, from which `scores` computes every score.

    Raises:
      InputError: shapes that do not go together, or logits that are not finite.

    >>> one = tally([0], [[2.0, 1.0]])
    >>> one.merge(one).confusion.tolist()
    [[2.0, 0.0], [0.0, 0.0]]
    """
    images = _images(labels, logits, mask)
    return _tally(images, np.ones(len(images.labels)) if weights is None else weights)


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def scores(
    sums: Tally,
    class_counts: Sequence[int] | np.ndarray,
    *,
    many_above: int = MANY_ABOVE.default,
    few_below: int = FEW_BELOW.default,
) -> dict[str, Any]:
    """Computes every score from a tally.

        ECE           = sum_b (N_b / N) |correct_b / N_b - confidence_b / N_b|
        classwise ECE = the same of each class's probability, its mean over the classes
        tail-to-head confusion (key `head_to_tail`)
                      = images of "few" predicted as a class of "many" / images of "few"
        macro F1      = mean of 2 C_cc / (row_c + column_c) over classes that occur in either

    Args:
      sums: of all images.
      class_counts: int `[C]`, training images per class.
      many_above: classes with more training images than this are "many".
      few_below: classes with fewer training images than this are "few".

    Returns:
      The accuracies of `metrics.accuracies`, and `top5`, `worst_class`, `harmonic_mean`,
      `geometric_mean` (of the accuracies per class), `macro_f1`, `head_to_tail`, `nll`, `ece`,
      `classwise_ece`; None where a score is not defined.

    Source: ECE: Naeini et al. (AAAI 2015), https://doi.org/10.1609/aaai.v29i1.9602; class-wise
    ECE: Kull et al. (NeurIPS 2019), https://arxiv.org/abs/1910.12656.

    >>> out = scores(tally([0, 1], [[3.0, 0.0], [3.0, 0.0]]), [200, 5])
    >>> out["accuracy"], out["worst_class"], out["head_to_tail"], out["harmonic_mean"]
    (0.5, 0.0, 1.0, 0.0)
    """
    counts = np.asarray(class_counts)
    thresholds = {"many_above": many_above, "few_below": few_below}
    matrix, total = sums.confusion, sums.confusion.sum()
    found = accuracies(matrix, counts, **thresholds)
    known = np.array([a for a in found["per_class"] if a is not None])
    some = len(known) > 0
    either = matrix.sum(axis=0) + matrix.sum(axis=1)
    occurring = either > 0
    groups = shot_groups(counts, **thresholds)
    tail = matrix[groups.few]
    called = tail[:, groups.many].sum()
    number, confidence, right = sums.reliability
    class_gap = np.abs(sums.classwise[1] - sums.classwise[2]).sum(axis=1)
    extra = {
        "top5": float(sums.top5.sum() / total) if total else None,
        "worst_class": float(known.min()) if some else None,
        "harmonic_mean": _harmonic(known) if some else None,
        "geometric_mean": float(np.prod(known ** (1 / len(known)))) if some else None,
        "macro_f1": _mean(2 * np.diag(matrix)[occurring] / either[occurring]),
        "head_to_tail": float(called / tail.sum()) if tail.sum() and len(groups.many) else None,
        "nll": float(sums.nll / total) if total else None,
        "ece": float(np.abs(right - confidence).sum() / number.sum()) if total else None,
        "classwise_ece": float((class_gap / total).mean()) if total else None,
    }
    return found | extra


def _harmonic(values: np.ndarray) -> float:
    return 0.0 if (values == 0).any() else float(len(values) / (1 / values).sum())


def intervals(
    labels: np.ndarray,
    logits: np.ndarray,
    class_counts: Sequence[int] | np.ndarray,
    *,
    level: float = 0.95,
    resamples: int = 200,
    seed: int = 0,
    many_above: int = MANY_ABOVE.default,
    few_below: int = FEW_BELOW.default,
) -> dict[str, Any]:
    """Bootstrap intervals `[low, high]` of every score: its percentiles over resamples.

    Images are resampled within their class, since a test set has a fixed number of images of each
    class. The intervals measure the uncertainty due to the test images, not that due to the seed
    of the training.

    Args:
      labels: int `[N]`.
      logits: float `[N, C]`.
      class_counts: int `[C]`, training images per class.
      level: confidence level, > 0 and < 1.
      resamples: number of resamples.
      seed: of the resampling.
      many_above: classes with more training images than this are "many".
      few_below: classes with fewer training images than this are "few".

    Returns:
      Keys of `scores`, each a pair, or None; `per_class` is a list of them.

    Raises:
      InputError: shapes that do not go together, or a `level` or `resamples` out of range.

    Source: percentile bootstrap: Efron (Annals of Statistics 1979),
    https://doi.org/10.1214/aos/1176344552.

    >>> intervals([0, 1], [[3.0, 0.0], [3.0, 0.0]], [200, 5])["accuracy"]
    [0.5, 0.5]
    """
    require(0 < level < 1, "level", level, "a number between 0 and 1")
    require(resamples >= 1, "resamples", resamples, "an integer >= 1")
    images = _images(labels, logits, None)
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(images.labels == c) for c in range(images.num_classes)]
    drawn = []
    for _ in range(resamples):
        weights = np.zeros(len(images.labels))
        for rows in members:
            if len(rows):
                picks = rng.integers(len(rows), size=len(rows))
                weights[rows] = np.bincount(picks, minlength=len(rows))
        sums = _tally(images, weights)
        drawn.append(scores(sums, class_counts, many_above=many_above, few_below=few_below))
    edges = [(1 - level) / 2, (1 + level) / 2]

    def interval(values: list[Any]) -> Any:
        if isinstance(values[0], list):
            return [interval(list(column)) for column in zip(*values, strict=True)]
        return None if None in values else np.quantile(values, edges).tolist()

    return {name: interval([d[name] for d in drawn]) for name in drawn[0]}


def scores_of_seeds(
    labels: np.ndarray,
    logits: Sequence[np.ndarray],
    class_counts: Sequence[int] | np.ndarray,
    *,
    seeds: Sequence[int],
    many_above: int = MANY_ABOVE.default,
    few_below: int = FEW_BELOW.default,
) -> dict[str, Any]:
    """The scores of a run on the test images, as `result.json` holds them.

    Args:
      labels: int `[N]`.
      logits: float `[N, C]` for each seed.
      class_counts: int `[C]`, training images per class.
      seeds: the seeds.
      many_above: classes with more training images than this are "many".
      few_below: classes with fewer training images than this are "few".

    Returns:
      JSON: `test`, the scores, or their mean over several seeds, then with the sample standard
      deviation `test_std`, the `seeds` and the scores `per_seed`; and `intervals`, the bootstrap
      intervals of each seed.

    Raises:
      InputError: shapes that do not go together.
    """
    groups = {"many_above": many_above, "few_below": few_below}
    each = [scores(tally(labels, z), class_counts, **groups) for z in logits]
    found: dict[str, Any] = {"test": each[0]}
    if len(each) > 1:
        mean, std = average(each)
        found = {"test": mean, "test_std": std, "seeds": list(seeds), "per_seed": each}
    found["intervals"] = [intervals(labels, z, class_counts, **groups) for z in logits]
    return found
