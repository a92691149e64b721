"""The class distribution that a loss corrects for: that of the batches, or of the training set."""

from typing import NamedTuple

import numpy as np

from ltjax.config import Config
from ltjax.losses import LossTransform, by_epoch
from ltjax.samplers import BatchSampler


class ClassStatistics(NamedTuple):
    """What the constants of a loss are made from.

    Attributes:
      counts: images of each class `[C]`, for margins, class weights and smoothing.
      prior: the class distribution to correct for, as counts or shares: `[C]`, or `[E, C]`, one row
        per epoch, if it changes during training.
    """

    counts: np.ndarray
    prior: np.ndarray


def class_statistics(
    config: Config, counts: np.ndarray, labels: np.ndarray, sampler: BatchSampler
) -> ClassStatistics:
    """The class statistics that the loss of a run is made from, by `loss.prior`.

    Args:
      config: resolved configuration of the run.
      counts: training images of each class, `[C]`.
      labels: of the training images, `[N]`.
      sampler: its batches.

    Returns:
      The counts of the training set, and the prior. With `plan`, both are the draws of the first
      epoch: older runs were trained so.
    """
    if config.loss.prior == "plan":
        drawn = np.bincount(labels[sampler.epoch(0).ravel()], minlength=len(counts))
        return ClassStatistics(drawn, drawn)
    if config.loss.prior == "data":
        return ClassStatistics(counts, counts)
    if not sampler.scheduled:
        return ClassStatistics(counts, _of_epoch(config, counts, sampler, 0))
    weight = embedded_weight(config)
    epochs = range(config.train.epochs)
    rows = [sampler.class_prior(epoch=epoch, embedded_weight=weight) for epoch in epochs]
    return ClassStatistics(counts, np.array(rows))


def final_prior(
    config: Config, counts: np.ndarray, sampler: BatchSampler, steps: int
) -> np.ndarray:
    """The class distribution of the epoch in which a network's last step was taken.

    Args:
      config: resolved configuration of the run; its `loss.prior` is not used.
      counts: training images of each class, `[C]`.
      sampler: its batches.
      steps: that the network was trained for; fewer than planned where training stopped early.

    Returns:
      Shares `[C]`, or the counts where they are the same.
    """
    return _of_epoch(config, counts, sampler, max(steps - 1, 0) // sampler.steps_per_epoch)


def with_prior(
    loss: LossTransform, statistics: ClassStatistics, steps_per_epoch: int
) -> LossTransform:
    """The loss, by epoch where the prior changes during training.

    Args:
      loss: loss of one epoch.
      statistics: of its classes.
      steps_per_epoch: steps of an epoch.
    """
    return by_epoch(loss, steps_per_epoch) if statistics.prior.ndim > 1 else loss


def embedded_weight(config: Config) -> float | None:
    """BET's weight of the embedded mean; None where the sampler embeds nothing."""
    return config.loss.embedded_weight if config.plan.name == "b3rs_bet" else None


def _of_epoch(config: Config, counts: np.ndarray, sampler: BatchSampler, epoch: int) -> np.ndarray:
    """The sampler's class prior; where it is the training set's, the counts themselves."""
    prior = sampler.class_prior(epoch=epoch, embedded_weight=embedded_weight(config))
    # The same numbers in another unit would be rounded in another way.
    same = np.allclose(prior, counts / counts.sum(), rtol=1e-9, atol=0)
    return counts if same else prior
