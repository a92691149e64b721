"""Samplers by name: their options, and what makes the sampler that a configuration describes."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from ltjax.errors import one_of, option, require, require_integer
from ltjax.samplers.b3rs import B3RS, BALANCE, NUM_BLOCKS, PARTITION
from ltjax.samplers.base import BatchSampler
from ltjax.samplers.baselines import (
    IMAGES_PER_CLASS,
    THRESHOLD,
    ClassAwareSampler,
    PowerSampler,
    ProgressiveSampler,
    RepeatFactorSampler,
)
from ltjax.samplers.bet import EVERY, FRACTION, embed, embedded_slots
from ltjax.samplers.labels import EPOCH_SIZE, LabelIndex, index_labels


class Wanted(NamedTuple):
    """The arguments that a sampler is made from.

    Attributes:
      config: name and options.
      labels: the index of the labels.
      batch_size: images per batch.
      seed: integer >= 0.
      epochs: epochs of the whole run.
    """

    config: "SamplerConfig"
    labels: LabelIndex
    batch_size: int
    seed: int
    epochs: int


def _power(power: float) -> Callable[[Wanted], BatchSampler]:
    return lambda w: PowerSampler(w.labels, w.batch_size, power=power, seed=w.seed)


def _class_balanced(w: Wanted) -> BatchSampler:
    size = w.config.epoch_size
    return PowerSampler(w.labels, w.batch_size, power=0.0, seed=w.seed, epoch_size=size)


def _progressive(w: Wanted) -> BatchSampler:
    return ProgressiveSampler(w.labels, w.batch_size, epochs=w.epochs, seed=w.seed)


def _repeat_factor(w: Wanted) -> BatchSampler:
    threshold = w.config.threshold
    return RepeatFactorSampler(w.labels, w.batch_size, threshold=threshold, seed=w.seed)


def _class_aware(w: Wanted) -> BatchSampler:
    return ClassAwareSampler(
        w.labels,
        w.batch_size,
        images_per_class=w.config.images_per_class,
        seed=w.seed,
        epoch_size=w.config.epoch_size,
    )


def _b3rs(w: Wanted) -> BatchSampler:
    return B3RS(
        w.labels,
        w.batch_size,
        num_blocks=w.config.num_blocks,
        balance=w.config.balance,
        partition=w.config.partition,
        seed=w.seed,
    )


def _b3rs_bet(w: Wanted) -> BatchSampler:
    balanced = _b3rs(w._replace(batch_size=embedded_slots(w.batch_size, w.config.fraction)))
    return embed(_power(1.0)(w), balanced, every=w.config.every, fraction=w.config.fraction)


# To add a sampler, add a line here and its options, if it has any, to `SamplerConfig`.
SAMPLERS: Mapping[str, Callable[[Wanted], BatchSampler]] = {
    "instance": _power(1.0),
    "square_root": _power(0.5),
    "class_balanced": _class_balanced,
    "reverse": _power(-1.0),
    "progressive": _progressive,
    "repeat_factor": _repeat_factor,
    "class_aware": _class_aware,
    "b3rs": _b3rs,
    "b3rs_bet": _b3rs_bet,
}
# Those that know an epoch of the largest class.
BALANCED = ("class_balanced", "class_aware")


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
    """What a configuration says about the batches: the section `plan` of its keys.

    Attributes:
      name: one of `SAMPLERS`, or "auto", the default of the run's method, which must be resolved
        before a sampler is made.
      num_blocks: number of blocks of classes, see `B3RS`.
      balance: balance of the blocks' quotas, see `B3RS`.
      partition: how classes are cut into blocks, see `B3RS`.
      every: number of steps from one embedded step to the next, see `embed`.
      fraction: share of the slots that are embedded, see `embed`.
      threshold: share of the images below which a class is repeated, see `RepeatFactorSampler`.
      images_per_class: images of each class drawn, see `ClassAwareSampler`.
      epoch_size: what the steps of an epoch are counted by, see `LabelSampler`.

    Source: ours.
    """

    name: str = option("auto", one_of("auto", *SAMPLERS), "sampler of the batches")
    num_blocks: int = NUM_BLOCKS.field()
    balance: float = BALANCE.field()
    partition: str = PARTITION.field()
    every: int = EVERY.field()
    fraction: float = FRACTION.field()
    threshold: float = THRESHOLD.field()
    images_per_class: int = IMAGES_PER_CLASS.field()
    epoch_size: str = EPOCH_SIZE.field()


def make_sampler(
    config: SamplerConfig,
    labels: np.ndarray | LabelIndex,
    batch_size: int,
    *,
    seed: int,
    epochs: int,
) -> BatchSampler:
    """Makes the sampler that a configuration describes.

    Args:
      config: name and options; options of other samplers are ignored.
      labels: int `[N]`, or the index that `index_labels` gives.
      batch_size: images per batch, >= 1.
      seed: integer >= 0.
      epochs: epochs of the whole run, >= 1; only "progressive" depends on it.

    Returns:
      The sampler.

    Raises:
      InputError: an unknown name, a value that the sampler refuses, or an epoch of the largest
        class for a sampler that is not class-balanced.

    Source: ours.

    >>> labels = np.repeat([0, 1, 2], [12, 6, 2])
    >>> make_sampler(SamplerConfig("b3rs", num_blocks=2), labels, 5, seed=0, epochs=90)
    B3RS(images=20, batch_size=5, num_blocks=2, balance=0.5, partition='classes', seed=0)
    """
    require(config.name in SAMPLERS, "plan.name", config.name, f"one of {', '.join(SAMPLERS)}")
    if config.name not in BALANCED:
        words = f"images, or a plan.name of {' or '.join(BALANCED)}"
        require(config.epoch_size == "images", "plan.epoch_size", config.epoch_size, words)
    index = labels if isinstance(labels, LabelIndex) else index_labels(labels)
    epochs = require_integer("epochs", epochs, 1)
    return SAMPLERS[config.name](Wanted(config, index, batch_size, seed, epochs))
