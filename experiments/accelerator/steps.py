"""The steps of a run as functions of shapes alone: no data is read, no device needed.

They are those of the trainer, mapped by `ltjax.training.devices.Mapping` over devices that may be
a number only, or those of a described topology.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from ltjax.config import Config
from ltjax.data.loader import Batch
from ltjax.data.sources import EncodedSource
from ltjax.training.build import Job, build, initial_state, keys
from ltjax.training.data import RunData
from ltjax.training.devices import Mapping, choose_engine
from ltjax.training.inputs import AXIS, Resident
from ltjax.training.recalibration import Measured
from ltjax.training.step import Variables, make_eval_step, make_freeze
from ltjax.whitening.linen import FROZEN


class Abstract(Mapping):
    """A mapping over so many devices of a platform, none of which exist.

    Args:
      count: number of devices.
      platform: "gpu" or "tpu", which decides how steps are fused.
    """

    def __init__(self, count: int, platform: str):
        self.devices, self.hosts, self.host = [], 1, 0
        self.backend, self.engine = "shard_map", choose_engine(platform)
        self._mesh = AbstractMesh((count,), (AXIS,), (AxisType.Auto,))  # type: ignore[assignment]
        self._shared = self._everywhere = NamedSharding(self._mesh, PartitionSpec())


class Call(NamedTuple):
    """A mapped step and the shapes of its arguments."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def trace(self) -> Any:
        """The step, traced; `lower` and `compile` are its methods."""
        return self.function.trace(*self.arguments)  # type: ignore[attr-defined]


@dataclasses.dataclass(frozen=True)
class _NoImages:
    """Stands for images of which only the shape matters."""

    identity: str = "none"

    def read(self, position: int) -> bytes:
        raise OSError("there are no images, only shapes")

    def name(self, position: int) -> str:
        return str(position)


# Classes, largest and smallest class, and the shape of an image, by `data.name`.
SIZES = {
    "digits": (10, 100, 5, (8, 8, 1)),
    "cifar10": (10, 5000, 50, (32, 32, 3)),
    "cifar100": (100, 500, 5, (32, 32, 3)),
    "imagenet_lt": (1000, 1280, 5, (224, 224, 3)),
}


def job_of(config: Config, *, largest: int | None = None) -> Job:
    """The parts of a run on a stand-in of its data: as many classes, images of the same shape.

    Args:
      config: resolved configuration; native kernels must be off.
      largest: images of the largest class, where fewer will do.
    """
    classes, most, least, shape = SIZES[config.data.name]
    most = min(largest or most, most)
    counts = np.round(np.geomspace(most, min(least, most), classes)).astype(int)
    labels = np.repeat(np.arange(classes, dtype=np.int64), counts)
    names = tuple(map(str, range(classes)))
    positions = np.arange(len(labels), dtype=np.int64)
    source = EncodedSource(_NoImages(), positions, labels, names, shape[0], shape[2])
    channels = np.ones(shape[2], np.float32)
    resident = config.data.name != "imagenet_lt"
    data = RunData(source, source, None, resident, 0 * channels, channels, {})
    return build(config, data=data)


def calls(job: Job, mapping: Mapping, *, steps: int = 1) -> dict[str, Call]:
    """The mapped steps of a run with the shapes of their arguments.

    Args:
      job: of `job_of`.
      mapping: devices, with the mapping by `shard_map`.
      steps: in one dispatch of the train step.

    Returns:
      "train", "evaluate", "freeze" and, where the averaged parameters have statistics of their
      own, "recalibrate".
    """
    state = jax.eval_shape(lambda: initial_state(job, 0))
    freeze = make_freeze(job.model, job.data.train.image_shape)
    variables = jax.eval_shape(freeze, state)
    data = _resident(job, variables)
    size, rows = job.samplers[0].batch_size, job.eval_batch_size
    shared, replicated = mapping.place, mapping.replicated
    found = {
        "train": Call(
            mapping.train_step(job.train_step),
            (shared(state), shared(data), _batch(job, mapping, (steps,), size)),
        ),
        "evaluate": Call(
            mapping.eval_step(make_eval_step(job.model)),
            (shared(variables), shared(data), _batch(job, mapping, (), rows)),
        ),
        "freeze": Call(replicated(freeze), (shared(state),)),
    }
    if job.recalibration_batches:
        # As `ltjax.training.recalibration.recalibrated` begins.
        given = {"params": state.ema, "batch_stats": state.batch_stats}
        start = Measured(state.step, given, state.batch_stats)
        found["recalibrate"] = Call(
            mapping.measurement(job.measurement_step),
            (shared(start), shared(data), _batch(job, mapping, (), size)),
        )
    return found


def _resident(job: Job, variables: Variables) -> Resident:
    """The shapes of what stays on the devices."""
    train = job.data.train
    counts = train.class_counts
    mixing = job.mixing
    mixed = () if mixing is None else jax.eval_shape(lambda: mixing.init(jnp.asarray(counts)))
    classes = tuple(map(jnp.asarray, job.classes[0]))
    images = jax.ShapeDtypeStruct((len(train), *train.image_shape), jnp.uint8)
    channels = jax.ShapeDtypeStruct((train.image_shape[-1],), jnp.float32)
    return Resident(
        images if job.data.resident else None,
        channels,
        channels,
        jax.eval_shape(lambda: job.losses[0].init(*classes)),
        jax.eval_shape(lambda: keys(0)[1]),
        mixed,
        variables.get(FROZEN, ()) if job.trainable is not None else (),
        () if (contrast := job.contrast) is None else jax.eval_shape(contrast.init, *classes),
    )


def _batch(job: Job, mapping: Mapping, lead: Sequence[int], size: int) -> Batch:
    """The shapes of a batch as `Mapping.split` gives it, on all devices."""
    each = (mapping.count, *lead, math.ceil(size / mapping.count))
    sharding = NamedSharding(mapping._mesh, PartitionSpec(AXIS))

    def array(dtype: Any, *more: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*each, *more), dtype, sharding=sharding)

    streamed = None if job.data.resident else array(jnp.uint8, *job.data.train.image_shape)
    numbers, flags = array(jnp.int32), array(jnp.bool_)
    return Batch(numbers, numbers, numbers, flags, flags, streamed)


COLLECTIVE = re.compile(
    r"stablehlo\.(all_reduce|all_gather|reduce_scatter|collective_permute|all_to_all)\b"
)


class Lowered(NamedTuple):
    """What a lowered program asks of its platform.

    Attributes:
      collectives: number of collective operations, of a scanned step once.
      calls: names of custom calls.
      doubles: number of values of float64.
    """

    collectives: int
    calls: frozenset[str]
    doubles: int


def lowered(call: Call, *platforms: str) -> list[Lowered]:
    """Lowers a step for platforms that need not be there, without compiling it.

    Args:
      call: the step; it is traced once.
      platforms: some of "cuda", "rocm" and "tpu".
    """
    traced = call.trace()
    return [_read(traced.lower(lowering_platforms=(one,)).as_text()) for one in platforms]


def _read(text: str) -> Lowered:
    """What a program in StableHLO asks for."""
    return Lowered(
        len(COLLECTIVE.findall(text)),
        frozenset(re.findall(r"custom_call @([\w.$]+)", text)),
        len(re.findall(r"(?:x|<)f64>", text)),
    )
