"""`LongTailClassifier`: the methods of ltjax on features, behind scikit-learn's interface."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import _check_partial_fit_first_call, check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ltjax.errors import is_integer, require
from ltjax.evaluation.calibration import correct
from ltjax.samplers.b3rs import BALANCE, NUM_BLOCKS
from ltjax.samplers.bet import FRACTION
from ltjax.training import portable
from ltjax.training.fitting import Fitted, check_rows, check_start, fit, go_on
from ltjax.training.settings import AUTO, Settings, checked
from ltjax.training.task import Data

DTYPES = (np.float32, np.float64, np.float16)
BLOCK = 4096


class LongTailClassifier(ClassifierMixin, BaseEstimator):
    """A classifier of features whose classes are unequally frequent.

    Features, such as the embeddings of a pretrained network, are whitened by their covariance
    within classes; a linear head, or one with hidden layers, is trained on them with a loss that
    corrects for the class distribution, by the sampler, loss and step of the trainer. What is
    "auto" is chosen on held-out training rows, and the head is then trained on all rows.

    Args:
      method: one of `ltjax.config.METHODS`, or "lda": whitening, class means and prior in closed
        form. Without hidden layers "bn_la" is "logit_adjustment": features are standardized anyway.
      shrinkage: ridge of the covariance, relative to the mean variance, in (0, 1], or "auto".
      weight_decay: of the mean loss, or "auto".
      tau: strength of the logit adjustment, or "auto".
      epochs: passes over the rows, or "auto": 2 to 60, so that about 100,000 rows are seen.
      batch_size: rows of a step, or "auto": 64 to 1,024, by the number of rows.
      learning_rate: peak of the cosine, or "auto".
      hidden: widths of hidden layers; () is a linear head.
      n_blocks: blocks of classes of B3RS; at most one for each class.
      balance: of B3RS, from 0, instance-balanced, to 1, class-balanced.
      fraction: share of a batch that BET embeds.
      validation_fraction: share of each class that is held out for the choice.
      early_stopping: keep the epoch with the lowest class-balanced log loss on held-out rows, and
        stop five epochs after it; these rows are then not trained on.
      seeds: number of heads, trained side by side, whose logits are averaged.
      target_prior: class distribution of the rows to be predicted: "uniform", "train", or shares
        `[C]` in the order of `classes_`. It can be changed after the fit.
      random_state: seed of the held-out rows, the batches and the initialization.
      warm_start: whether `fit` starts from the heads of the fit before.
      device: JAX platform, such as "cpu" or "gpu"; None is JAX's default.
      verbose: whether to print what was chosen, and every epoch.

    Attributes:
      classes_: class labels, sorted, `[C]`.
      class_prior_: shares of the classes in the training rows, float64 `[C]`.
      coef_: coefficients `[C, D]`, only of heads that are linear.
      intercept_: intercepts `[C]`, before the correction for the prior.
      shrinkage_, weight_decay_, tau_, temperature_: what was used.
      n_iter_: epochs.
      n_features_in_, feature_names_in_: as everywhere in scikit-learn.

    Source: ours; `docs/method.md` says where the parts come from.

    >>> from sklearn.datasets import make_classification
    >>> X, y = make_classification(500, weights=[0.9], random_state=0)
    >>> model = LongTailClassifier(method="lda").fit(X, y)
    >>> model.predict_proba(X[:2]).shape
    (2, 2)
    """

    classes_: np.ndarray

    def __init__(
        self,
        method: str = "cw_la_b3rs_bet",
        *,
        shrinkage: float | str = AUTO,
        weight_decay: float | str = AUTO,
        tau: float | str = AUTO,
        epochs: int | str = AUTO,
        batch_size: int | str = AUTO,
        learning_rate: float | str = AUTO,
        hidden: Sequence[int] = (),
        n_blocks: int = NUM_BLOCKS.default,
        balance: float = BALANCE.default,
        fraction: float = FRACTION.default,
        validation_fraction: float = 0.1,
        early_stopping: bool = False,
        seeds: int = 1,
        target_prior: str | Sequence[float] = "uniform",
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        device: str | None = None,
        verbose: bool = False,
    ):
        self.method = method
        self.shrinkage = shrinkage
        self.weight_decay = weight_decay
        self.tau = tau
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.hidden = hidden
        self.n_blocks = n_blocks
        self.balance = balance
        self.fraction = fraction
        self.validation_fraction = validation_fraction
        self.early_stopping = early_stopping
        self.seeds = seeds
        self.target_prior = target_prior
        self.random_state = random_state
        self.warm_start = warm_start
        self.device = device
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fits the classifier.

        Args:
          X: features `[N, D]`: NumPy, pandas or polars; float16, float32 and float64 are read as
            they are, also mapped to memory, and never copied as a whole.
          y: class labels `[N]`, numbers or strings.
          sample_weight: of the rows, `[N]`, >= 0; None is 1 each.

        Returns:
          The estimator itself.
        """
        settings = self._settings()
        X, y = validate_data(self, X, y, dtype=DTYPES)
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        warm = self.warm_start and hasattr(self, "_fitted")
        start = self._start(settings, X) if warm else None
        if warm and not np.array_equal(classes, self.classes_):
            raise ValueError(f"warm_start needs the same classes as before, {self.classes_}")
        self.classes_ = classes
        data = self._data(X, labels, sample_weight)
        check_rows(data, settings)
        self._keep(
            settings, fit(data, settings, start=start, report=print if self.verbose else None)
        )
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Goes on with one epoch on some rows; the whitening is that of all rows so far.

        Nothing is chosen: what is "auto" has a default, and the learning rate is constant.

        Args:
          X: features `[N, D]`.
          y: class labels `[N]`.
          classes: all labels there will be, `[C]`; needed at the first call.
          sample_weight: of the rows, `[N]`.

        Returns:
          The estimator itself.
        """
        settings = self._settings()
        known = hasattr(self, "_fitted")
        first = _check_partial_fit_first_call(self, classes)
        X, y = validate_data(self, X, y, dtype=DTYPES, reset=not known)
        check_classification_targets(y)
        if first and len(self.classes_) < 2:
            raise ValueError("The number of classes has to be greater than one; got 1 class")
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"y has the class {unknown[0]!r}, which is not in `classes`")
        data = self._data(X, np.searchsorted(self.classes_, y), sample_weight)
        start = self._start(settings, X) if known else None
        self._keep(settings, go_on(data, settings, start))
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Corrected logits, plus the log of the target prior.

            (z - tau log pi) / T + log q

        Args:
          X: features `[N, D]`.

        Returns:
          float64 `[N, C]`; with two classes `[N]`, the difference of the second and the first.
        """
        scores = self._scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes under the target prior, calibrated on held-out rows.

        Args:
          X: features `[N, D]`.

        Returns:
          float64 `[N, C]`.
        """
        probabilities: np.ndarray = softmax(self._scores(X), axis=1)
        return probabilities

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row under the target prior.

        Args:
          X: features `[N, D]`.

        Returns:
          Labels `[N]`.
        """
        best = np.argmax(self._scores(X), axis=1)
        predicted: np.ndarray = self.classes_[best]
        return predicted

    def _scores(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=DTYPES, reset=False)
        prior = self._log_target_prior()
        counts, correction = self._fitted.moments.weight, self._fitted.candidate.correction
        scores = np.empty((len(X), len(self.classes_)))
        for start in range(0, len(X), BLOCK):
            block = slice(start, start + BLOCK)
            rows = np.asarray(X[block])
            if hasattr(self, "coef_"):
                z = rows @ self._slopes.astype(np.result_type(rows, np.float32)) + self.intercept_
            else:
                z = self._fitted.logits(self._fitted_by, rows)
            scores[block] = correct(z, counts, correction) + prior
        scores[:, counts == 0] = -np.inf  # classes that no part had yet
        return scores

    def _log_target_prior(self) -> np.ndarray:
        """The log of the target prior; 0 for a uniform one."""
        prior, size = self.target_prior, len(self.classes_)
        if isinstance(prior, str):
            require(
                prior in ("uniform", "train"), "target_prior", prior, "uniform, train or shares"
            )
            if prior == "uniform":
                return np.zeros(size)
            prior = self.class_prior_
        shares = np.asarray(prior, np.float64)
        allowed = f"{size} numbers >= 0, one for each class, of sum 1"
        fits = shares.shape == (size,) and (shares >= 0).all() and abs(shares.sum() - 1) < 1e-3
        require(bool(fits), "target_prior", prior, allowed)
        with np.errstate(divide="ignore"):
            return np.log(shares)

    def _data(self, X: np.ndarray, labels: np.ndarray, sample_weight: Any) -> Data:
        if sample_weight is None:
            return Data(X, labels, None, len(self.classes_))
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if (weights == 0).any():  # rows that do not count must not be drawn either
            keep = weights > 0
            X, labels, weights = X[keep], labels[keep], weights[keep]
        return Data(X, labels, weights, len(self.classes_))

    def _settings(self) -> Settings:
        """The parameters, checked, with a seed drawn."""
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        names = [name for name in Settings._fields if name != "seed"]
        return checked(Settings(seed=int(seed), **{name: getattr(self, name) for name in names}))

    def _start(self, settings: Settings, X: np.ndarray) -> Fitted:
        """What was fitted, where it can be gone on from."""
        check_start(self._fitted, self._fitted_by, settings, X.shape[1])
        return self._fitted

    def _keep(self, settings: Settings, fitted: Fitted) -> None:
        """Takes over what was fitted."""
        self._fitted, self._fitted_by = fitted, settings
        weight, candidate = fitted.moments.weight, fitted.candidate
        self.class_prior_ = weight / weight.sum()
        self.shrinkage_, self.n_iter_ = candidate.shrinkage, fitted.epochs
        self.weight_decay_ = candidate.strength / fitted.rows
        self.tau_, self.temperature_ = candidate.correction
        affine = fitted.affine()
        for name in ("_slopes", "intercept_", "coef_"):
            self.__dict__.pop(name, None)  # of an earlier fit
        if affine is not None:
            self._slopes, self.intercept_ = affine
            self.coef_ = self._slopes.T

    def save(self, path: str | Path) -> None:
        """Writes the fitted classifier: `arrays.safetensors` and `classifier.json`.

        Args:
          path: folder, which is made if it does not exist. A `random_state` that is not a number
            is not kept.
        """
        check_is_fitted(self)
        given = self.get_params() | {"hidden": list(self.hidden)}
        if not isinstance(self.target_prior, str):
            given["target_prior"] = np.asarray(self.target_prior, float).tolist()
        if not is_integer(self.random_state):
            given["random_state"] = None
        facts = {
            "parameters": given,
            "classes": [str(self.classes_.dtype), self.classes_.tolist()],
            "names": list(getattr(self, "feature_names_in_", [])),
            "features": self.n_features_in_,
        }
        portable.write(path, self._fitted, self._fitted_by, facts)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a classifier that `save` wrote.

        Args:
          path: its folder.

        Returns:
          The fitted classifier.

        Raises:
          InputError: there is none, or it cannot be read.
        """
        fitted, settings, facts = portable.read(path)
        with portable.readable(path):
            model = cls(**facts["parameters"] | {"hidden": settings.hidden})
            dtype, classes = facts["classes"]
            model.classes_ = np.array(classes, np.dtype(dtype).type)
            model.n_features_in_ = facts["features"]
            if facts["names"]:
                model.feature_names_in_ = np.array(facts["names"], object)
            model._keep(settings, fitted)
        return model
