"""Batch statistics of averaged parameters, from training batches.

The running statistics of batch norm and of the whitening follow the features of the parameters
that are trained. An average of parameters, as an exponential moving average or SWA makes one, has
other features, so its statistics are computed anew: its network sees training batches in training
mode, and each statistic is the plain mean of its values in these batches. It is means, variances
and covariances that are averaged, never inverse roots. Each batch starts from no past, so the order
of the batches does not matter, and a whitening with `memory` uses each batch alone.

Source: `bn_update` of Izmailov et al., Averaging Weights Leads to Wider Optima and Better
Generalization (UAI 2018), https://arxiv.org/abs/1803.05407; for whitening: ours.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ltjax.augment.device import Augment
from ltjax.config import Config
from ltjax.data.loader import Batch
from ltjax.models import Classifier
from ltjax.models.layers import BATCH_NORM_MOMENTUM
from ltjax.training.devices import Mapping
from ltjax.training.inputs import Resident, Way, seen
from ltjax.training.step import Variables


class Measured(NamedTuple):
    """What the measurement carries from batch to batch.

    Attributes:
      step: of the next batch, `[]` int32.
      variables: the parameters, and batch statistics that only give the shapes.
      sums: of each statistic over the batches so far.
    """

    step: jax.Array
    variables: Variables
    sums: Any


MeasurementStep = Callable[[Measured, Resident, Batch], Measured]


# The most batches that are taken where the config does not say how many.
MOST_BATCHES = 100


def recalibration_batches(config: Config, steps_per_epoch: int) -> int:
    """The number of training batches that the statistics of averaged parameters are taken from.

    Args:
      config: resolved configuration.
      steps_per_epoch: steps of an epoch.

    Returns:
      At most the steps of the whole run; 0 where there are no such statistics.

    >>> from ltjax.config import default, resolve
    >>> settings = default()
    >>> settings.optimizer.ema_decay = 0.999
    >>> recalibration_batches(resolve(settings), 7), recalibration_batches(resolve(settings), 500)
    (7, 100)
    """
    if not recalibrates(config):
        return 0
    asked = config.optimizer.ema_batches
    batches = min(steps_per_epoch, MOST_BATCHES) if asked is None else asked
    return min(batches, config.training_epochs * steps_per_epoch)


def recalibrates(config: Config) -> bool:
    """Whether a run keeps batch statistics for its averaged parameters.

    Args:
      config: resolved configuration.
    """
    return config.optimizer.ema_batches != 0


def make_measurement_step(
    model: Classifier, *, augment: Augment | None, ways: Sequence[Way]
) -> MeasurementStep:
    """The measurement of one batch's statistics, added to those of the batches before.

    Args:
      model: network.
      augment: as in training.
      ways: as in training, how the images of a batch are mixed and augmented.

    Returns:
      The step of one device, to be mapped over the axis `AXIS`.
    """

    def step(measured: Measured, data: Resident, batch: Batch) -> Measured:
        images = seen(data, batch, measured.step, augment, ways).images
        # Without a past, so that the update tells of this batch alone.
        blank = jax.tree.map(jnp.zeros_like, measured.sums)
        variables = {**measured.variables, "batch_stats": blank}
        _, updates = model.apply(variables, images, train=True, mutable=["batch_stats"])
        found = {
            part: _of_batch(stats, _momentum(model, part))
            for part, stats in updates.get("batch_stats", {}).items()
        }
        sums = jax.tree.map(jnp.add, measured.sums, found)
        return Measured(measured.step + 1, measured.variables, sums)

    return step


def recalibrated(
    mapping: Mapping,
    step: MeasurementStep,
    variables: Variables,
    data: Resident,
    first: int,
    batches: Iterable[Batch],
) -> Any:
    """The batch statistics of parameters, as plain means over training batches.

    Args:
      mapping: devices.
      step: that of `make_measurement_step`, mapped by `mapping.measurement`.
      variables: the parameters and any batch statistics, of which those that are no moments (how
        much of the past the running statistics hold) are kept.
      data: the training images, and the key of the augmentation.
      first: step of the first batch; the randomness of augmentation and mixing is a function of it.
      batches: consecutive batches; at least one.

    Returns:
      Statistics in the shape of those given, on every device.
    """
    before = variables["batch_stats"]
    start = Measured(jnp.asarray(first, jnp.int32), variables, jax.tree.map(jnp.zeros_like, before))
    measured = mapping.replicate(start)
    for batch in batches:
        measured = step(measured, data, mapping.split(batch))
    means = mapping.replicated(_means)
    return means(measured.sums, before, (measured.step - first).astype(jnp.float32))


# Of a layer of the whitening, see `ltjax.whitening.running.Running`.
_MOMENTS = ("mean", "covariance", "shrinkage")


def _momentum(model: Classifier, part: str) -> float:
    """The momentum of the batch norms in a part of the network."""
    return float(getattr(getattr(model, part), "momentum", BATCH_NORM_MOMENTUM))


def _of_batch(stats: Any, momentum: float) -> Any:
    """A batch's own statistics, of running ones that were 0 before it."""
    if "var" in stats:  # of a batch norm
        return {name: x / (1 - momentum) for name, x in stats.items()}
    if "covariance" in stats:  # of a whitening, which is corrected for its start
        return stats
    return {name: _of_batch(layer, momentum) for name, layer in stats.items()}


def _means(sums: Any, before: Any, count: jax.Array) -> Any:
    if isinstance(sums, dict):
        is_whitening = "covariance" in sums
        return {
            name: before[name]
            if is_whitening and name not in _MOMENTS
            else _means(sums[name], before[name], count)
            for name in sums
        }
    return sums / count
