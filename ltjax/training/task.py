"""What `LongTailClassifier` fits, and the training that follows from it."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.config import Config, resolve
from ltjax.errors import InputError, one_line
from ltjax.samplers import index_labels, make_sampler
from ltjax.training import heads
from ltjax.training.heads import Rows, Training, Watch
from ltjax.training.program import kind_of, program_of
from ltjax.training.settings import AUTO, LARGEST_BATCH, Settings
from ltjax.training.state import TrainState
from ltjax.whitening.classwise import Basis, Chunk, ClassMoments, class_moments

CHUNK = 2048
# Learning rate of hidden layers, which have batch norm; without them it follows from the rows.
HIDDEN_RATE = 0.1
# Learning rate for B rows of D whitened features, times D / B.
RATE = 0.6


class Data(NamedTuple):
    """Rows to fit.

    Attributes:
      features: `[N, D]`, float, in memory or mapped to it; never copied as a whole.
      labels: int `[N]`.
      weights: of the rows, float64 `[N]`, above 0, or None.
      num_classes: C.
    """

    features: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None
    num_classes: int

    @property
    def counts(self) -> np.ndarray:
        """Rows of each class, or the sums of their weights, `[C]`."""
        return np.bincount(self.labels, self.weights, minlength=self.num_classes)

    def some(self, index: np.ndarray) -> "Data":
        """Some of the rows, copied."""
        weights = None if self.weights is None else self.weights[index]
        return self._replace(
            features=self.features[index], labels=self.labels[index], weights=weights
        )

    def moments(self) -> ClassMoments:
        """Moments by class."""
        return class_moments(self._chunks, self.num_classes)

    def _chunks(self) -> Iterator[Chunk]:
        for start in range(0, len(self.labels), CHUNK):
            part = slice(start, start + CHUNK)
            rows, labels = np.asarray(self.features[part]), self.labels[part]
            wide = rows.astype(np.float32) if rows.dtype.itemsize < 4 else rows
            yield wide, labels, np.ones(len(labels)) if self.weights is None else self.weights[part]

    def rows(self, basis: Basis, index: np.ndarray | None = None) -> Rows:
        """The rows, or some of them, in the coordinates of a basis."""
        labels, weights = self.labels, self.weights
        if index is not None:
            labels = labels[index]
            weights = None if weights is None else weights[index]
        if weights is not None:
            weights = (weights / weights.mean()).astype(np.float32)
        return Rows(self.features, index, labels, weights, basis)


def training(
    settings: Settings,
    config: Config,
    basis: Basis,
    each: Sequence[tuple[float, float]],
    rows: int,
    *,
    cosine: bool = True,
    seeds: np.ndarray | None = None,
) -> Training:
    """What heads are trained with.

    Args:
      settings: see there.
      config: of the training.
      basis: of its coordinates.
      each: shrinkage of each head, and its weight decay times the number of rows.
      rows: N.
      cosine: see `Training`.
      seeds: of the heads; by default all start the same.

    Returns:
      Arrays with an entry for each head.
    """
    shrinkages, strengths = np.array(each).T
    scales, decays = basis.scales(shrinkages), strengths / rows
    rates = np.full(len(each), settings.learning_rate if settings.learning_rate != AUTO else 0.0)
    if settings.learning_rate == AUTO and settings.hidden:
        rates[:] = HIDDEN_RATE
    elif settings.learning_rate == AUTO:
        # A step longer than 1 / curvature diverges, and the curvature of the softmax is at most
        # half the features' largest variance; the weight decay adds to it.
        wanted = RATE * config.train.batch_size / scales.shape[1]
        steepest = [basis.largest_variance(s) for s in scales] + decays
        rates[:] = np.minimum(wanted, 1 / np.maximum(steepest, 1e-6))
    return Training(
        scales,
        decays,
        rates,
        np.full(len(each), settings.seed) if seeds is None else seeds,
        cosine,
    )


def train(
    data: Data,
    rows: Rows,
    settings: Settings,
    config: Config,
    options: Training,
    *,
    start: Callable[[TrainState], TrainState] | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Trains heads on rows of some data; see `heads.train`."""
    counts = np.bincount(rows.labels, rows.weights, minlength=data.num_classes)
    with warnings.catch_warnings():  # of classes that partial_fit has not met yet
        warnings.filterwarnings("ignore", message="no image of class")
        names = [str(c) for c in range(data.num_classes)]
        index = index_labels(rows.labels, names)
    present = len(index.order)
    plan = config.plan
    if plan.num_blocks > present:
        config = resolve(replace(config, plan=replace(plan, num_blocks=present)))
    sampler = make_sampler(
        config.plan, index, config.train.batch_size, seed=config.seed, epochs=config.train.epochs
    )
    return heads.train(
        config,
        rows,
        sampler,
        counts,
        options,
        hidden=settings.hidden,
        device=device_of(settings),
        start=start,
        watch=watch,
    )


def device_of(settings: Settings) -> jax.Device:
    """The first device of the platform; JAX's default where none is named."""
    try:
        return jax.local_devices(backend=settings.device)[0]
    except RuntimeError as error:
        raise InputError(
            f"device = {settings.device!r} is not available: {one_line(error)}"
        ) from error


def class_means(rows: Rows, num_classes: int) -> np.ndarray:
    """Mean of the rows of each class, `[C, D]`; 0 for a class without rows."""
    total, labels = len(rows.labels), rows.labels
    sums = np.zeros((num_classes, rows.read(np.arange(1)).shape[1]))
    for start in range(0, total, CHUNK):
        part = np.arange(start, min(start + CHUNK, total))
        np.add.at(sums, labels[part], rows.read(part))
    return sums / np.maximum(np.bincount(labels, minlength=num_classes), 1)[:, None]


def nearest_mean(means: np.ndarray) -> dict[str, Any]:
    """The head of linear discriminant analysis, for a uniform prior.

        logits_c = z m_c - |m_c|^2 / 2 = -|z - m_c|^2 / 2 + |z|^2 / 2

    Args:
      means: class means `m` in white coordinates, `[C, D]`.

    Returns:
      Variables of one head, with a leading axis.

    Source: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning (2009), eq. 4.10.

    >>> nearest_mean(np.array([[2.0]]))["params"]["head"]["dense"]["bias"].tolist()
    [[-2.0]]
    """
    dense = {"kernel": means.T[None], "bias": -np.sum(means**2, axis=1)[None] / 2}
    return {"params": {"head": {"dense": dense}}, "batch_stats": {}}


def linear(variables: dict[str, Any]) -> dict[str, np.ndarray] | None:
    """Kernel `[K, D, C]` and bias `[K, C]` of heads that are affine; None for others."""
    if set(variables["params"]) != {"head"}:
        return None
    dense: dict[str, np.ndarray] | None = variables["params"]["head"].get("dense")
    return dense


def logits(
    settings: Settings, num_classes: int, variables: dict[str, Any], white: np.ndarray
) -> np.ndarray:
    """Logits of one head.

    Args:
      settings: that it was trained with.
      num_classes: C.
      variables: its own, without the leading axis.
      white: coordinates of rows, divided by its scale, float32 `[N, D]`.

    Returns:
      float32 `[N, C]`.
    """
    dense = linear(variables)
    if dense is not None:
        return white @ dense["kernel"] + dense["bias"]
    config = settings.config(len(white), num_classes)
    kind = kind_of(config, settings.hidden, num_classes, 0, device_of(settings))
    call = program_of(kind).logits
    found = []
    for start in range(0, len(white), LARGEST_BATCH):  # padded, so that one program serves all
        block = white[start : start + LARGEST_BATCH]
        padded = np.pad(block, ((0, LARGEST_BATCH - len(block)), (0, 0)))
        found.append(np.asarray(call(variables, jnp.asarray(padded)))[: len(block)])
    return np.concatenate(found)


def head(variables: dict[str, Any], index: int) -> dict[str, Any]:
    """The variables of one of several heads."""
    return jax.tree.map(lambda leaf: leaf[index], variables)
