"""The start of a training on given features: their whitening is known before the first step."""

from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from ltjax.data.rows import FeatureSource
from ltjax.training.build import Job, initial_state
from ltjax.training.state import TrainState
from ltjax.whitening.dataset import dataset_statistics
from ltjax.whitening.linen import ChannelWhitening, StandardizedWhitening
from ltjax.whitening.running import Running, evaluate, running_matrix

Chunks = Callable[[], Iterator[np.ndarray]]


def begin(job: Job) -> list[TrainState]:
    """The initial states, with the whitening's statistics of all training features.

    Args:
      job: parts of a run whose model acts on given features (`ModelConfig.given`).

    Returns:
      A state for each seed.
    """
    train, data = job.data.train, job.data
    assert isinstance(train, FeatureSource)  # the config's check

    def chunks() -> Iterator[np.ndarray]:
        for rows in train.chunks():
            yield (rows.astype(np.float32) - data.mean[None, :]) / data.std[None, :]

    states = [initial_state(job, seed) for seed in job.seeds]
    if job.model.whitening is None:
        return states
    stats = {"whitening": whitening_statistics(job.model.whitening, chunks)}
    return [state._replace(batch_stats=stats) for state in states]


def whitening_statistics(layer: nn.Module, chunks: Chunks) -> dict[str, Any]:
    """The variables that a layer keeps, from all rows of a data set.

    Args:
      layer: a `ChannelWhitening` or a `StandardizedWhitening`.
      chunks: gives the rows that it whitens, float32 `[N_i, D]`, anew at every call.

    Returns:
      Its collection `batch_stats`.
    """
    if isinstance(layer, ChannelWhitening):
        return _variables(dataset_statistics(layer, chunks))
    assert isinstance(layer, StandardizedWhitening)
    first = dataset_statistics(layer.standardize, chunks)
    matrix = running_matrix(layer.standardize, first)

    def standardized() -> Iterator[np.ndarray]:
        for rows in chunks():
            yield np.asarray(evaluate(first, matrix, jnp.asarray(rows)))

    second = dataset_statistics(layer.whiten, standardized)
    return {"standardize": _variables(first), "whiten": _variables(second)}


def _variables(state: Running) -> dict[str, Any]:
    return {name: value for name, value in state._asdict().items() if value is not None}
