"""The plan that a configuration names."""

import dataclasses

import numpy as np

from ltjax.errors import integer, number, one_of, option, require
from ltjax.samplers.b3rs import B3RS, PARTITIONS
from ltjax.samplers.base import EpochPlan, LabelIndex, index_labels
from ltjax.samplers.baselines import (
    ClassAwareSampler,
    PowerSampler,
    ProgressiveSampler,
    RepeatFactorSampler,
)
from ltjax.samplers.bet import embed, embedded_slots

POWERS = {"instance": 1.0, "square_root": 0.5, "class_balanced": 0.0, "reverse": -1.0}
PLANS = (*POWERS, "progressive", "repeat_factor", "class_aware", "b3rs", "b3rs_bet")


def make_plan(
    labels: np.ndarray | LabelIndex,
    batch_size: int,
    *,
    name: str,
    seed: int,
    num_blocks: int = 5,
    balance: float = 0.5,
    partition: str = "classes",
    every: int = 1,
    fraction: float = 1.0,
    threshold: float = 0.001,
    images_per_class: int = 4,
    epochs: int = 1,
) -> EpochPlan:
    """Builds the plan that a config names; arguments as of the plans themselves.

    Args:
      name: one of `PLANS`.
      epochs: of the whole schedule, for "progressive".

    Raises:
      InputError: an unknown name, or a value that the plan refuses.
    """
    require(name in PLANS, "plan.name", name, f"one of {', '.join(PLANS)}")
    index = labels if isinstance(labels, LabelIndex) else index_labels(labels)
    if name in POWERS:
        return PowerSampler(index, batch_size, power=POWERS[name], seed=seed)
    if name == "progressive":
        return ProgressiveSampler(index, batch_size, epochs=epochs, seed=seed)
    if name == "repeat_factor":
        return RepeatFactorSampler(index, batch_size, threshold=threshold, seed=seed)
    if name == "class_aware":
        return ClassAwareSampler(index, batch_size, images_per_class=images_per_class, seed=seed)
    slots = embedded_slots(batch_size, fraction) if name == "b3rs_bet" else batch_size
    balanced = B3RS(
        index, slots, num_blocks=num_blocks, balance=balance, partition=partition, seed=seed
    )
    if name == "b3rs":
        return balanced
    regular = PowerSampler(index, batch_size, power=1.0, seed=seed)
    return embed(regular, balanced, every=every, fraction=fraction)


@dataclasses.dataclass(frozen=True)
class SamplerConfig:
    """What a configuration says of the batches."""

    name: str = option("auto", one_of("auto", *PLANS), "batch plan")
    num_blocks: int = option(5, integer(1), "B3RS: blocks of classes")
    balance: float = option(0.5, number(0, 1), "B3RS: 0 instance-balanced, 1 class-balanced")
    partition: str = option("classes", one_of(*PARTITIONS), "B3RS: how classes are cut")
    every: int = option(1, integer(1), "BET: embed at every so many steps")
    fraction: float = option(0.5, number(0, 1, open_low=True), "BET: embedded share of a batch")
    threshold: float = option(
        0.001,
        number(0, 1, open_low=True),
        "repeat_factor: share of the images below which a class is repeated",
    )
    images_per_class: int = option(4, integer(1), "class_aware: images of each class drawn")
