"""Fits a classifier to features in memory: moments, choice, heads; or goes on with one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.config import METHODS
from ltjax.data.longtail import stratified
from ltjax.errors import InputError, require
from ltjax.evaluation.calibration import balanced_nll, correct
from ltjax.kernels.allocator import give_back
from ltjax.training.choice import Candidate, choose, unchosen
from ltjax.training.heads import Heads
from ltjax.training.settings import LDA, Settings
from ltjax.training.state import TrainState
from ltjax.training.task import Data, head, linear, logits, nearest_mean, train
from ltjax.training.task import training as training_of
from ltjax.whitening.classwise import Basis, ClassMoments, within_class_basis

# Epochs without a better held-out loss after which early stopping stops.
PATIENCE = 5
Report = Callable[[str], None]


class Fitted(NamedTuple):
    """A classifier of rows.

    Attributes:
      moments: of all rows so far.
      rows: their number; weights do not count here, as the loss takes only their ratios.
      basis: of the coordinates that the heads take.
      scale: what these are divided by, `[D]`.
      variables: of the heads, with a leading axis of seeds.
      candidate: what was chosen; its correction is that of the heads' mean logits.
      epochs: that were trained.
    """

    moments: ClassMoments
    rows: int
    basis: Basis
    scale: np.ndarray
    variables: dict[str, Any]
    candidate: Candidate
    epochs: int

    def logits(self, settings: Settings, rows: np.ndarray) -> np.ndarray:
        """Mean logits of the heads, not corrected.

        Args:
          settings: that they were trained with.
          rows: `[N, D]`, any float dtype.

        Returns:
          float32 `[N, C]`.
        """
        white, classes = self.basis.coordinates(rows) / self.scale, len(self.moments.weight)
        each = [
            logits(settings, classes, head(self.variables, index), white)
            for index in range(settings.seeds)
        ]
        return np.asarray(np.mean(each, axis=0, dtype=np.float32))

    def affine(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The same as coefficients `[D, C]` and intercepts `[C]` of rows; None if it is not affine.

        x (A / s) K + b - m (A / s) K, for the mean kernel and bias of the heads.
        """
        dense = linear(self.variables)
        if dense is None:
            return None
        kernel = self.basis.rotation @ (dense["kernel"].mean(axis=0) / self.scale[:, None])
        return kernel, dense["bias"].mean(axis=0) - self.basis.center @ kernel


def check_rows(data: Data, settings: Settings) -> None:
    """Refuses rows that cannot be fitted.

    Args:
      data: the rows.
      settings: how they are to be fitted.

    Raises:
      ValueError: in scikit-learn's words, there are fewer than two classes, or a class has one row
        and early stopping needs two.
    """
    found = (data.counts > 0).sum()
    if found < 2:
        raise ValueError(f"The number of classes has to be greater than one; got {found} class")
    if settings.early_stopping and data.counts.min() < 2:
        raise ValueError(
            "The least populated class in y has only 1 member, which is too few for "
            "early_stopping. The minimum number of groups for any class cannot be less than 2."
        )


def check_start(start: Fitted, before: Settings, now: Settings, features: int) -> None:
    """Refuses to go on from a classifier of another shape.

    A linear head goes on from a linear head, whatever else was changed.

    Args:
      start: what there is.
      before: the settings that it was fitted with.
      now: those to go on with.
      features: D of the new rows.

    Raises:
      InputError: naming what is not as before.
    """
    size = start.moments.mean.shape[1]
    require(features == size, "number of features", features, f"{size}, as before")
    affine = linear(start.variables) is not None and not now.hidden
    if now.method == LDA or (affine and _head(now) == "linear"):
        return
    for name, old, new in (
        ("hidden", before.hidden, now.hidden),
        ("method", before.method, now.method),
        ("seeds", before.seeds, now.seeds),
    ):
        same = _head(before) == _head(now) if name == "method" else old == new
        require(same, name, new, f"{old}, as before; or fit anew, with warm_start=False")


def _head(settings: Settings) -> str:
    """The kind of the head of a method."""
    return "linear" if settings.method == LDA else METHODS[settings.method]["model.head"]


def _moments(data: Data) -> ClassMoments:
    with np.errstate(over="ignore", invalid="ignore"):
        moments = data.moments()
    if not np.isfinite(moments.within).all():
        largest = np.abs(data.features).max()
        raise InputError(f"X has values up to {largest:.1e}, whose squares overflow; scale X")
    return moments


def fit(
    data: Data, settings: Settings, *, start: Fitted | None = None, report: Report | None = None
) -> Fitted:
    """Fits a classifier.

    Args:
      data: the rows.
      settings: how.
      start: what to start from; None starts anew.
      report: takes a line of text after every epoch, or None.

    Returns:
      The classifier.
    """
    moments = _moments(data)
    give_back()
    candidate = choose(data, settings, moments)
    give_back()
    if report:
        report(f"chosen: {candidate}")
    index, held, seen = None, None, moments
    if settings.early_stopping and settings.method != LDA:
        index, held = stratified(data.labels, settings.validation_fraction, settings.seed)
        seen = moments.without(data.some(held).moments())
    basis = _basis(seen, start)
    count = len(data.labels)
    if settings.method == LDA:
        return _closed_form(moments, count, basis, candidate)
    rows = data.rows(basis, index)
    config = settings.config(len(rows.labels), data.num_classes)
    each = [(candidate.shrinkage, candidate.strength)] * settings.seeds
    seeds = settings.seed + np.arange(settings.seeds)
    options = training_of(settings, config, basis, each, len(rows.labels), seeds=seeds)
    empty = Fitted(moments, count, basis, options.scales[0], {}, candidate, config.train.epochs)
    watch = _Watch(empty, data, settings, held, report) if report or held is not None else None
    begin = None if start is None else _starter(start, empty)
    variables = train(data, rows, settings, config, options, start=begin, watch=watch)
    fitted = empty._replace(variables=variables)
    return fitted if watch is None or watch.best is None else watch.best


def go_on(data: Data, settings: Settings, start: Fitted | None) -> Fitted:
    """One epoch on some rows, on top of what there is; nothing is chosen.

    Args:
      data: the rows.
      settings: how.
      start: what to go on from; None starts anew.

    Returns:
      The classifier.
    """
    moments = _moments(data) if start is None else start.moments.join(_moments(data))
    basis, count = _basis(moments, start), len(data.labels) + (start.rows if start else 0)
    candidate = unchosen(settings, count)
    if settings.method == LDA:
        return _closed_form(moments, count, basis, candidate)
    rows = data.rows(basis)
    config = settings._replace(epochs=1).config(len(rows.labels), data.num_classes)
    each = [(candidate.shrinkage, candidate.strength)] * settings.seeds
    seeds = settings.seed + np.arange(settings.seeds)
    options = training_of(settings, config, basis, each, count, cosine=False, seeds=seeds)
    new = Fitted(moments, count, basis, options.scales[0], {}, candidate, 1)
    begin = None if start is None else _starter(start, new)
    return new._replace(variables=train(data, rows, settings, config, options, start=begin))


def _basis(moments: ClassMoments, start: Fitted | None) -> Basis:
    """The basis of all rows; that of `start` where hidden layers have been trained in it."""
    if start is not None and linear(start.variables) is None:
        return start.basis
    return within_class_basis(moments)


def _closed_form(moments: ClassMoments, rows: int, basis: Basis, candidate: Candidate) -> Fitted:
    scale = basis.scales(np.array([candidate.shrinkage]))[0]
    means = (moments.mean - basis.center) @ basis.rotation / scale
    variables = nearest_mean(means)
    variables["params"]["head"]["dense"]["bias"][:, moments.weight == 0] = -np.inf
    return Fitted(moments, rows, basis, scale, variables, candidate, 0)


def _starter(start: Fitted, new: Fitted) -> Callable[[TrainState], TrainState]:
    """Puts the heads of `start` into initial states, in the coordinates of `new`."""

    def begin(states: TrainState) -> TrainState:
        params, stats = start.variables["params"], start.variables["batch_stats"]
        affine = start.affine()
        if affine is not None:
            kernel, bias = affine
            shape = states.params["head"]["dense"]["kernel"].shape
            own = new.scale[:, None] * (new.basis.inverse() @ kernel)
            dense = {
                "kernel": np.broadcast_to(own, shape).astype(np.float32),
                "bias": np.broadcast_to(bias + new.basis.center @ kernel, shape[::2]),
            }
            params = {"head": {"dense": dense}}
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
        return states._replace(params=params, batch_stats=stats)

    return begin


class _Watch:
    """Reports every epoch, and keeps the epoch of the lowest held-out class-balanced log loss.

    Args:
      new: the classifier to be, without variables.
      data: all rows.
      settings: how it is fitted.
      held: held-out rows, or None.
      report: takes a line of text, or None.

    Attributes:
      best: the classifier of the best epoch; None without held-out rows.
    """

    def __init__(
        self,
        new: Fitted,
        data: Data,
        settings: Settings,
        held: np.ndarray | None,
        report: Report | None,
    ):
        self._new, self._data, self._settings = new, data, settings
        self._held, self._report = held, report
        self.best: Fitted | None = None
        self._lowest, self._epoch = np.inf, 0

    def __call__(self, step: int, heads: Heads) -> bool:
        """Called after every epoch; whether to go on."""
        self._epoch += 1
        line, loss = f"epoch {self._epoch}/{self._new.epochs}", None
        if self._held is not None:
            loss = self._held_out(heads)
            line += f"  held-out log loss {loss:.4f}"
        if self._report:
            self._report(line)
        if loss is None or self.best is None or loss < self._lowest:
            return True
        return self._epoch - self.best.epochs < PATIENCE

    def _held_out(self, heads: Heads) -> float:
        fitted = self._new._replace(variables=heads.variables(), epochs=self._epoch)
        labels, counts = self._data.labels[self._held], self._data.counts
        z = fitted.logits(self._settings, self._data.features[self._held])
        loss = balanced_nll(labels, correct(z, counts, fitted.candidate.correction))
        if self.best is None or loss < self._lowest:
            self.best, self._lowest = fitted, loss
        return loss
