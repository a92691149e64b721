"""The choice of a head's shrinkage, weight decay and correction on held-out training rows."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ltjax.data.longtail import stratified
from ltjax.evaluation.calibration import Correction, balanced_nll, correct, fit
from ltjax.kernels.allocator import give_back
from ltjax.samplers import index_labels
from ltjax.training.heads import Rows
from ltjax.training.settings import AUTO, FEWEST_EPOCHS, LDA, MOST_EPOCHS, Settings
from ltjax.training.task import (
    Data,
    class_means,
    head,
    logits,
    nearest_mean,
    train,
    training,
)
from ltjax.whitening.classwise import Basis, ClassMoments, within_class_basis

# Candidates: intensities of the shrinkage, and weight decays in units of one row, so that they
# mean the same for any number of rows: the decay of the mean loss over N rows is `strength / N`.
# Strengths are tried from the first one on, in steps, as long as they get better.
SHRINKAGES = (0.95, 0.7, 0.3)
FIRST_STRENGTH, STRENGTH_STEP, STRENGTH_RANGE = 40.0, 4.0, (0.1, 1e6)
CLOSED_FORM_SHRINKAGES = (0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
# Shrinkage and strength where there are too few rows to choose by.
UNCHOSEN = (0.5, 2.0)
# What a choice is made on: with more classes or rows, a part of them.
MOST_CLASSES, MOST_ROWS = 100, 12_288
# Rows that all epochs of a candidate together see at most.
CHOICE_ROWS_SEEN = 40_000
# With fewer held-out rows than this there is nothing to choose by.
FEWEST_HELD_OUT = 40


class Candidate(NamedTuple):
    """What a head is trained with.

    Attributes:
      shrinkage: of the covariance within classes, in (0, 1].
      strength: weight decay of the mean loss, times the number of rows.
      correction: of its logits.
    """

    shrinkage: float
    strength: float
    correction: Correction = Correction()


class Split(NamedTuple):
    """Rows to choose on.

    Attributes:
      classes: their classes, int `[K]`.
      kept: rows to train on, int `[M]`.
      held: rows to compare on, int `[H]`.
    """

    classes: np.ndarray
    kept: np.ndarray
    held: np.ndarray


def split(labels: np.ndarray, fraction: float, seed: int) -> Split | None:
    """Splits rows, or a part of them, into rows to train candidates on and rows to compare them on.

    With many classes some are taken, evenly spread over the classes' numbers of rows, and of the
    largest of these so many rows that the sum is `MOST_ROWS`. Rare classes keep all their rows,
    since it is their number that decides how much regularization a head needs.

    Args:
      labels: int `[N]`.
      fraction: of each class that is held out, at least one row and never the last.
      seed: of the draws.

    Returns:
      The rows, or None where fewer than `FEWEST_HELD_OUT` would be held out.

    Source: ours.

    >>> labels = np.repeat([0, 1, 2], [300, 200, 20])
    >>> found = split(labels, 0.1, seed=0)
    >>> found.classes.tolist(), len(found.kept), len(found.held)
    ([0, 1, 2], 468, 52)
    >>> split(labels[:100], 0.1, seed=0)
    """
    index, rng = index_labels(labels), np.random.default_rng(seed)
    order = index.order
    if len(order) > MOST_CLASSES:
        order = order[np.linspace(0, len(order) - 1, MOST_CLASSES).round().astype(int)]
    sizes = np.minimum(index.counts[order], _limit(index.counts[order]))
    starts = np.zeros(len(index.counts), np.int64)
    starts[index.order] = np.cumsum(index.sizes) - index.sizes
    rows = np.concatenate(
        [
            rng.permutation(index.by_class[starts[c] : starts[c] + index.counts[c]])[:size]
            for c, size in zip(order, sizes, strict=True)
        ]
    )
    kept, held = stratified(labels[rows], fraction, seed)
    if len(held) < FEWEST_HELD_OUT:
        return None
    return Split(np.sort(order), rows[kept], rows[held])


def _limit(sizes: np.ndarray) -> int:
    """The most rows of a class with which all classes have at most `MOST_ROWS`."""
    low, high = 1, int(sizes.max())
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(sizes, middle).sum() <= MOST_ROWS:
            low = middle
        else:
            high = middle - 1
    return low


def choose(data: Data, settings: Settings, moments: ClassMoments) -> Candidate:
    """Chooses what is left to choose, by the class-balanced log loss of held-out rows.

    First the shrinkage is chosen, at the first strength, then the strength. Each candidate has its
    best temperature and, where `tau` is to be chosen, its best logit adjustment. The held-out rows
    are no part of the covariance either: with few rows for a feature, whitening by the covariance
    of a row makes this row easier than others. The chosen head is trained on all rows afterwards.

    Args:
      data: all rows.
      settings: how to fit; what is a number there is not changed.
      moments: of all rows.

    Returns:
      The best candidate, with its correction.
    """
    found = split(data.labels, settings.validation_fraction, settings.seed)
    if found is None:
        return unchosen(settings, len(data.labels))
    basis = within_class_basis(moments.without(data.some(found.held).moments()))
    give_back()
    number = np.zeros(data.num_classes, np.int64)
    number[found.classes] = np.arange(len(found.classes))
    part = data._replace(labels=number[data.labels], num_classes=len(found.classes))
    kept, held = part.rows(basis, found.kept), part.rows(basis, found.held)
    counts = np.bincount(kept.labels, kept.weights, minlength=part.num_classes)
    closed = settings.method == LDA  # no steps, and no weight decay
    shrinkages = _shrinkages(settings, CLOSED_FORM_SHRINKAGES if closed else SHRINKAGES)
    first = 0.0 if closed else _strength(settings, len(data.labels), FIRST_STRENGTH)

    def score(candidates: Sequence[Candidate]) -> list[Scored]:
        logits = _outputs(part, settings, basis, candidates, kept, held)
        adjust = settings.tau == AUTO
        return [
            _scored(candidate, logits(index), held.labels, counts, adjust=adjust)
            for index, candidate in enumerate(candidates)
        ]

    own = settings.correction()
    best = min(score([Candidate(a, first, own) for a in shrinkages]), key=_loss)
    if closed or settings.weight_decay != AUTO:
        return best.candidate
    return best_strength(best, lambda a, s: score([Candidate(a, s, own)])[0]).candidate


def best_strength(first: "Scored", score: Callable[[float, float], "Scored"]) -> "Scored":
    """The best strength from that of `first` on: upwards, or downwards where upwards is worse.

    Args:
      first: the candidate to start from.
      score: of a shrinkage and a strength.

    Returns:
      The last candidate that was better than the one before it.
    """
    best = first
    for factor in (STRENGTH_STEP, 1 / STRENGTH_STEP):
        while (
            STRENGTH_RANGE[0] < (strength := best.candidate.strength * factor) < STRENGTH_RANGE[1]
        ):
            found = score(best.candidate.shrinkage, strength)
            if found.loss >= best.loss:
                break
            best = found
        if best is not first:
            break
    return best


class Scored(NamedTuple):
    """A candidate with its best correction, and the class-balanced log loss that it has with it."""

    loss: float
    candidate: Candidate


def _loss(scored: Scored) -> float:
    return scored.loss


def unchosen(settings: Settings, rows: int) -> Candidate:
    """What is taken where nothing can be chosen; numbers that are given stay.

    Args:
      settings: how to fit.
      rows: N.

    Returns:
      The candidate.
    """
    (shrinkage,) = _shrinkages(settings, UNCHOSEN[:1])
    strength = _strength(settings, rows, UNCHOSEN[1])
    return Candidate(shrinkage, strength, settings.correction())


def _shrinkages(settings: Settings, otherwise: Sequence[float]) -> Sequence[float]:
    """The shrinkage that is given, or others; 1 for rows that are not whitened."""
    if not settings.whitens:
        return (1.0,)
    given = settings.shrinkage
    return otherwise if isinstance(given, str) else (given,)


def _strength(settings: Settings, rows: int, otherwise: float) -> float:
    """The strength of the weight decay that is given, or another."""
    given = settings.weight_decay
    return otherwise if isinstance(given, str) else given * rows


def _outputs(
    part: Data,
    settings: Settings,
    basis: Basis,
    candidates: Sequence[Candidate],
    kept: Rows,
    held: Rows,
) -> Callable[[int], np.ndarray]:
    """Gives the logits of the held-out rows by each candidate."""
    coordinates = held.read(np.arange(len(held.labels)))
    if settings.method == LDA:
        scales = basis.scales(np.array([c.shrinkage for c in candidates]))
        means = class_means(kept, part.num_classes)
        trained = [head(nearest_mean(means / scale), 0) for scale in scales]
    else:
        total = len(kept.labels)
        if settings.epochs == AUTO:
            seen = int(np.clip(CHOICE_ROWS_SEEN // total, FEWEST_EPOCHS, MOST_EPOCHS))
            settings = settings._replace(epochs=seen)
        # With as many rows in a batch as all rows would have, a small choice shares the program of
        # the training after it, whose compilation costs more than both.
        config = settings.config(total + len(held.labels), part.num_classes)
        each = [(c.shrinkage, c.strength) for c in candidates]
        options = training(settings, config, basis, each, total)
        scales, variables = options.scales, train(part, kept, settings, config, options)
        trained = [head(variables, index) for index in range(len(candidates))]
    return lambda index: logits(
        settings, part.num_classes, trained[index], coordinates / scales[index]
    )


def _scored(
    candidate: Candidate, z: np.ndarray, labels: np.ndarray, counts: np.ndarray, *, adjust: bool
) -> Scored:
    """The score of a candidate.

    Args:
      candidate: with the correction that it starts from.
      z: its logits of the held-out rows, `[H, C]`.
      labels: of these rows, int `[H]`.
      counts: training rows of each class, `[C]`.
      adjust: whether to fit the strength of the logit adjustment too; otherwise the candidate's
        own stays.

    Returns:
      The candidate with its best correction, and the loss.
    """
    tau = candidate.correction.tau
    if not adjust:
        z = correct(z, counts, Correction(tau))
    found = fit(labels, z, counts, adjust=adjust)
    loss = balanced_nll(labels, correct(z, counts, found))
    total = found if adjust else Correction(tau, found.temperature)
    return Scored(loss, candidate._replace(correction=total))
