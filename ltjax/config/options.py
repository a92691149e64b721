"""The options of the parts that import this room; the others declare theirs beside their code."""

from dataclasses import dataclass
from typing import Any

from ltjax.augment.mixing import MIXING_ALPHA, MIXINGS, REMIX_KAPPA, REMIX_TAU
from ltjax.data.longtail import FEW_BELOW, MANY_ABOVE
from ltjax.errors import FLAG, Allowed, integer, number, one_of, option
from ltjax.models.max_norm import MAX_NORM

# More than anybody trains, and a count of steps that an int32 holds.
MOST_EPOCHS = 100_000
LARGEST_SEED = 2**32 - 1  # JAX drops the higher bits, and the seeds would be equal


def integers(low: int, high: int, *, most: int) -> Allowed:
    """Tuples of different integers in an interval.

    Args:
      low: smallest integer that is allowed.
      high: largest integer that is allowed.
      most: largest number of integers.

    Returns:
      The check, and the same in words.

    >>> [integers(1, 9, most=2).check(value) for value in ((1, 2), (1, 1), (0,), (1, 2, 3), "12")]
    [True, False, False, False, False]
    """
    one = integer(low, high)

    def check(v: Any) -> bool:
        if not isinstance(v, tuple | list) or len(v) > most or not all(map(one.check, v)):
            return False
        return len(set(v)) == len(v)

    return Allowed(check, f"a tuple of at most {most} different integers >= {low} and <= {high}")


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and the schedule of its learning rate."""

    name: str = option("sgd", one_of("sgd", "adamw"), "optax optimizer")
    learning_rate: float = option(0.1, number(0, open_low=True), "peak learning rate")
    momentum: float = option(0.9, number(0, 0.9999), "sgd: momentum")
    nesterov: bool = option(False, FLAG, "sgd: use Nesterov momentum")
    weight_decay: float = option(
        5e-4, number(0), "weight decay of the parameters that decay, see decay"
    )
    decay: str = option(
        "kernels",
        one_of("kernels", "all"),
        "which parameters decay; all: those of biases and normalization too",
    )
    head_rate: float = option(
        1.0,
        number(0, open_low=True),
        "learning rate of the classifier, as a multiple of learning_rate",
    )
    schedule: str = option(
        "cosine",
        one_of("cosine", "constant", "steps"),
        "shape of the learning rate after the warmup",
    )
    milestones: tuple[int, ...] = option(
        (160, 180),
        integers(1, MOST_EPOCHS, most=100),
        "steps: epochs at which the learning rate drops",
    )
    milestone_factor: float = option(
        0.01, number(0, 1), "steps: factor of the learning rate at each milestone"
    )
    cycles: int = option(1, integer(1, 1000), "cosine: how often the rate falls from its peak to 0")
    warmup_epochs: int = option(
        5, integer(0, MOST_EPOCHS), "epochs in which the learning rate rises linearly"
    )
    warmup: str = option(
        "steps",
        one_of("steps", "epochs"),
        "when it rises; steps: at every step, from 0; epochs: once an epoch, to "
        "(e + 1) / warmup_epochs of the peak in epoch e = 0, 1, ...",
    )
    sam_rho: float = option(
        0.0,
        number(0),
        "radius of sharpness-aware minimization (SAM), at twice the cost of a step; 0 turns it off",
    )
    clip_norm: float = option(
        0.0, number(0), "largest global norm of the gradient; 0 turns clipping off"
    )
    ema_decay: float = option(
        0.0,
        number(0, 0.999999),
        "decay of the moving average of the parameters that is evaluated; 0 turns it off",
    )
    swa_epochs: int = option(
        0,
        integer(0, MOST_EPOCHS),
        "last epochs over whose ends the parameters that are evaluated are averaged (SWA); 0 turns "
        "it off",
    )
    ema_batches: int | None = option(
        None,
        integer(0, 10**6),
        "training batches over which the batch statistics of the averaged parameters are "
        "computed; None: an epoch's, but at most 100; 0: the running statistics of the training "
        "are taken",
        older=0,
    )

    @property
    def averaged(self) -> bool:
        """Whether an average of the parameters is kept and evaluated."""
        return self.ema_decay > 0 or self.swa_epochs > 0


@dataclass(frozen=True)
class TrainConfig:
    """Length, batches and mixing of the training."""

    batch_size: int = option(64, integer(1, 2**20), "training images per step, over all devices")
    epochs: int = option(
        100,
        integer(1, MOST_EPOCHS),
        "epochs of ceil(N / batch_size) steps each, in either stage; see plan.epoch_size",
    )
    minutes: float | None = option(
        None,
        number(0, open_low=True),
        "time budget of the training, which sets train.epochs; see docs/training.md",
    )
    early_stopping: int = option(
        0,
        integer(0, MOST_EPOCHS),
        "epochs without a better score on held-out images after which the training stops and its "
        "best network is kept; 0 turns it off",
    )
    mixing: str = option("auto", one_of("auto", *MIXINGS), "mixing of images and labels")
    mixing_alpha: float = MIXING_ALPHA.field()
    regmixup: bool = option(
        False, FLAG, "whether the images are also seen as they are, beside the mixed ones"
    )
    remix_kappa: float = REMIX_KAPPA.field()
    remix_tau: float = REMIX_TAU.field()
    on_nan: str = option(
        "stop",
        one_of("stop", "skip"),
        "after a loss that is not finite: stop the run, or skip the update",
    )
    log_every_steps: int = option(20, integer(1, 10**6), "steps between two lines of metrics.jsonl")


@dataclass(frozen=True)
class DecoupledConfig:
    """Stage two of the decoupled methods."""

    tau: float | None = option(
        None,
        number(0),
        "tau_norm: exponent of the norms; None: the best on the validation images, see "
        "data.validation_fraction",
    )
    max_norm: float = MAX_NORM.field()


@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluation on the test images, and the groups of classes by training images."""

    batch_size: int = option(256, integer(1, 2**20), "test images per step, over all devices")
    every_epochs: int = option(
        10, integer(1, MOST_EPOCHS), "epochs between two evaluations during training"
    )
    many_above: int = MANY_ABOVE.field()
    few_below: int = FEW_BELOW.field()

    @property
    def thresholds(self) -> dict[str, int]:
        """`many_above` and `few_below`, as keyword arguments of `shot_groups` and of the scores."""
        return {"many_above": self.many_above, "few_below": self.few_below}


@dataclass(frozen=True)
class EngineConfig:
    """How steps are executed."""

    mapping: str = option(
        "pmap", one_of("pmap", "shard_map"), "JAX transformation that maps a step over the devices"
    )
    steps_per_call: int | None = option(
        None,
        integer(1, 1000),
        "most steps per dispatch to the devices; None: 2 for networks with convolutions on CPU, "
        "20 elsewhere",
    )
    native: str = option(
        "auto",
        one_of("off", "on", "auto"),
        "native kernels for training on CPU; auto: where a run is long enough to pay for the build",
        older="off",
    )


@dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written, and how many are kept."""

    every_epochs: int = option(
        10,
        integer(1, MOST_EPOCHS),
        "epochs between two checkpoints; there is one at the end in any case",
    )
    keep: int = option(
        2,
        integer(1, 1000),
        "number of latest checkpoints to keep, besides the best one on held-out images",
    )
