"""The start of a fine-tuning: what one pass over the training images tells before the first step.

Where backbone and whitening stay as they are, the whitening takes its statistics from all training
images, as on given features. The head may start from the mean of its inputs over each class.
"""

from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ltjax.config import Config
from ltjax.data.sources import Source
from ltjax.data.vectors import read_vectors
from ltjax.errors import InputError
from ltjax.training.given import whitening_statistics
from ltjax.training.multi_seed import Seeds
from ltjax.training.state import TrainState
from ltjax.whitening.linen import freeze

CHUNK = 4096


def begins(config: Config) -> bool:
    """Whether a run starts from more than its initial states.

    Args:
      config: resolved configuration of a first stage.
    """
    frozen = config.finetune.train == "head" and config.whitening.method != "none"
    return frozen or config.model.head_init != "random"


def begin(config: Config, seeds: Seeds) -> list[TrainState]:
    """The states that a fine-tuning starts from.

    Args:
      config: resolved configuration.
      seeds: with their initial states.

    Returns:
      A state for each seed.

    Raises:
      InputError: a class without training images, or a file of class vectors that does not fit.
    """
    return [_begin_seed(config, seeds, index) for index in range(seeds.count)]


def _begin_seed(config: Config, seeds: Seeds, index: int) -> TrainState:
    state, train, model = seeds.state_of(index), seeds.job.data.train, seeds.job.model
    init = config.model.head_init
    if init not in ("random", "class_means"):
        (size,) = {leaf.shape[0] for leaf in jax.tree.leaves(state.params["head"]) if leaf.ndim > 1}
        vectors = read_vectors(init, len(train.class_names), size)
        return _with_head(state, model.head.of_vectors(jnp.asarray(vectors)))
    inputs = seeds.train_features(index)
    if model.whitening is not None:
        state, inputs = _whitened(state, model.whitening, inputs)
    if init == "random":
        return state
    means = means_of(inputs, train, instead="model.head_init = random")
    return _with_head(state, model.head.of_vectors(jnp.asarray(means)))


def _whitened(
    state: TrainState, layer: nn.Module, features: np.ndarray
) -> tuple[TrainState, np.ndarray]:
    """The state with the whitening's statistics of all features, and these whitened."""
    stats = whitening_statistics(layer, lambda: _chunks(features))
    variables = freeze(layer, {"batch_stats": stats}, features[:1], use_running_average=True)
    whiten = jax.jit(lambda x: layer.apply(variables, x, use_running_average=True))
    white = np.concatenate([np.asarray(whiten(rows)) for rows in _chunks(features)])
    kept = state.ema_stats and {**state.ema_stats, "whitening": stats}
    new = {**state.batch_stats, "whitening": stats}
    return state._replace(batch_stats=new, ema_stats=kept), white


def _chunks(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


def _with_head(state: TrainState, head: dict[str, Any]) -> TrainState:
    """The state with another head, also in the averaged parameters."""
    average = state.ema and {**state.ema, "head": jax.tree.map(jnp.copy, head)}
    return state._replace(params={**state.params, "head": head}, ema=average)


def means_of(inputs: np.ndarray, train: Source, *, instead: str) -> np.ndarray:
    """The mean over each class's images.

    Args:
      inputs: a row for each training image, `[N, D]`.
      train: the images.
      instead: what a message names to use instead.

    Returns:
      float32 `[C, D]`.

    Raises:
      InputError: a class has no training image.
    """
    counts = train.class_counts
    if not counts.all():
        raise InputError(
            f"class {int(np.argmin(counts))} has no training image, so it has no mean feature; "
            f"use {instead}"
        )
    sums = np.zeros((len(counts), inputs.shape[1]))
    np.add.at(sums, train.labels, np.asarray(inputs, np.float64))
    return (sums / counts[:, None]).astype(np.float32)
