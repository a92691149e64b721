"""The one place that maps steps over devices, hosts, seeds and fused steps.

Nothing outside this file knows how many devices or hosts there are, how seeds share a
device, or how several steps become one dispatch.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ltjax.data.loader import Batch
from ltjax.errors import InputError, one_line, require
from ltjax.models import Outputs
from ltjax.training.hosts import wait_for_all
from ltjax.training.inputs import AXIS, Resident
from ltjax.training.state import TrainState
from ltjax.training.step import EvalStep, TrainStep, Variables

# Which parts of `Resident` differ between seeds, as axes of `jax.vmap`.
_RESIDENT_SEEDS = Resident(
    *(None, None, None),
    loss_state=0,
    key=0,  # type: ignore[arg-type]
    mixing_state=None,
    frozen=0,
    contrast_state=0,
)


class Engine(NamedTuple):
    """How a platform runs several steps in one dispatch, and several seeds side by side.

    Attributes:
      scan: fuse steps by `lax.scan`, else unrolled. On XLA's CPU a convolution inside a
        loop is about 25 times slower.
      vmap_seeds: all seeds are one program, else one after another. On CPU the grouped
        convolutions that `vmap` makes are about 3.6 times slower per seed.
      steps_per_call: default number of fused steps.
    """

    scan: bool
    vmap_seeds: bool
    steps_per_call: int


def choose_engine(platform: str, *, convolves: bool = True) -> Engine:
    """The engine of a JAX platform; measured on CPU (docs/training.md).

    Args:
      platform: "cpu", "gpu" or "tpu".
      convolves: whether the network has convolutions.
    """
    slow = platform == "cpu" and convolves
    return Engine(False, False, 2) if slow else Engine(True, True, 20)


def _fuse(step: TrainStep, *, scan: bool) -> TrainStep:
    """Runs a step over batches with a leading axis of steps; metrics are stacked likewise."""

    def fused(state: TrainState, data: Resident, batch: Batch):
        if scan:
            return jax.lax.scan(lambda s, b: step(s, data, b), state, batch)
        once, history = jax.jit(step), []  # traced once, however many steps
        for i in range(len(batch.labels)):
            state, metrics = once(state, data, jax.tree.map(lambda x, i=i: x[i], batch))
            history.append(metrics)
        return state, jax.tree.map(lambda *values: jnp.stack(values), *history)

    return fused


class Mapping:
    """Maps per-device steps over all devices of all hosts, and places their arguments.

    Args:
      devices: this host's devices; with several hosts, all of them.
      backend: "pmap" or "shard_map"; both run the same per-device functions.
      engine: how steps are fused and seeds run; by default the platform's.
    """

    def __init__(
        self,
        devices: Sequence[jax.Device],
        *,
        backend: str = "pmap",
        engine: Engine | None = None,
    ):
        require(backend in ("pmap", "shard_map"), "engine.mapping", backend, "pmap or shard_map")
        self.devices = list(devices)
        self.backend = backend
        self.engine = engine or choose_engine(self.devices[0].platform)
        self.hosts, self.host = jax.process_count(), jax.process_index()
        self._mesh = Mesh(np.array(self.devices if self.hosts == 1 else jax.devices()), (AXIS,))
        # pmap takes and gives arrays of this host's devices, shard_map of all. Arguments
        # that all devices share must already lie on them, or every call copies them; with
        # pmap's own axis name the step is traced once.
        own = Mesh(np.array(self.devices), (AXIS,)) if backend == "pmap" else self._mesh
        self._shared = NamedSharding(own, PartitionSpec())
        self._everywhere = NamedSharding(self._mesh, PartitionSpec())

    @property
    def count(self) -> int:
        """Number of devices, over all hosts."""
        return self._mesh.size

    @property
    def chief(self) -> bool:
        """Whether this host is the one that writes."""
        return self.host == 0

    def replicate(self, tree: Any) -> Any:
        """Puts a tree of arrays on every device, as the mapped steps take it."""
        return jax.device_put(tree, self._shared)

    def for_checkpoint(self, tree: Any) -> Any:
        """The tree as arrays of all devices of all hosts, as orbax writes and reads them."""
        if self.hosts == 1:
            return tree
        return jax.tree.map(lambda x: jax.device_put(np.asarray(x), self._everywhere), tree)

    def place(self, shapes: Any) -> Any:
        """Shapes of a tree as `for_checkpoint` places it, to restore one there."""
        sharding = self._shared if self.hosts == 1 else self._everywhere
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes
        )

    def any_host(self, number: int) -> int:
        """The largest `number` of all hosts; every host must call it at the same step."""
        if self.hosts == 1:
            return number
        return int(multihost_utils.process_allgather(np.array(number)).max())

    def meet(self) -> None:
        """Waits for the other hosts, and connects with them.

        A collective operation waits for the last host, but what it needs before, a connection,
        the CPU's library makes at the first operation of the same devices, and gives up after 30
        seconds. To be called after what takes one host longer than another, such as loading data.
        """
        if self.hosts == 1:
            return
        wait_for_all("ltjax: loaded")
        self.any_host(0)
        ones = np.ones(len(self.devices), np.int32)
        jax.block_until_ready(jax.pmap(lambda x: jax.lax.psum(x, AXIS), AXIS)(ones))

    def split(self, batch: Batch, *, lead: int = 0) -> Batch:
        """Gives every device its slice: `[lead..., B] -> [devices, lead..., B / devices]`.

        With several hosts, only the slices of this host's devices are kept.
        """

        def one(x: np.ndarray) -> np.ndarray:
            shape = x.shape
            parts = x.reshape(*shape[:lead], self.count, -1, *shape[lead + 1 :])
            own = len(self.devices)
            return np.moveaxis(parts, lead, 0)[self.host * own :][:own]

        local = jax.tree.map(one, batch._replace(images=None))
        if batch.images is not None:  # this host's already
            shape, own = batch.images.shape, len(self.devices)
            parts = batch.images.reshape(*shape[:lead], own, -1, *shape[lead + 1 :])
            local = local._replace(images=np.moveaxis(parts, lead, 0))
        if self.backend == "pmap" or self.hosts == 1:
            return local
        sharding = NamedSharding(self._mesh, PartitionSpec(AXIS))
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), local)

    def train_step(self, step: TrainStep, *, stacked_seeds: bool = False) -> TrainStep:
        """Maps a train step; the old state's buffers are reused for the new one.

        The batch has the axes `[devices, steps, B / devices]`, with `stacked_seeds`
        `[devices, steps, seeds, B / devices]`; then the state, the loss's constants and
        the key have a leading axis of seeds.
        """
        if stacked_seeds:
            step = jax.vmap(step, in_axes=(0, _RESIDENT_SEEDS, 0))
        return self._map(_fuse(step, scan=self.engine.scan), donate=True)

    def replicated(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles a function of arguments that all devices share; so is its result."""
        return jax.jit(function, out_shardings=self._shared)

    def eval_step(self, step: EvalStep) -> EvalStep:
        """Maps an evaluation step; every host gets the outputs `[B, ...]` of all devices."""

        def gathered(variables: Variables, data: Resident, batch: Batch) -> Outputs:
            return jax.lax.all_gather(step(variables, data, batch), AXIS, tiled=True)

        return self._map(gathered, donate=False)

    def measurement(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Maps a step whose result is the same on all devices, as that of a train step is.

        The first argument and the result are trees that all devices share, the second is a
        `Resident`, and the batch has the axes `[devices, B / devices]`.
        """
        return self._map(step, donate=False)

    def _map(self, function: Callable, *, donate: bool) -> Callable:
        donated = (0,) if donate else ()
        if self.backend == "pmap":
            # With several hosts pmap takes all devices by itself.
            devices = self.devices if self.hosts == 1 else None
            return jax.pmap(
                function,
                axis_name=AXIS,
                in_axes=(None, None, 0),
                out_axes=None,
                devices=devices,
                donate_argnums=donated,
            )

        def local(state: TrainState, data: Resident, batch: Batch) -> Any:
            return function(state, data, jax.tree.map(lambda x: x[0], batch))

        shared, split = PartitionSpec(), PartitionSpec(AXIS)
        mapped = jax.shard_map(
            local,
            mesh=self._mesh,
            in_specs=(shared, shared, split),
            out_specs=shared,
            check_vma=False,
        )
        return jax.jit(mapped, donate_argnums=donated)


def choose_devices(cpu_devices: int) -> list[jax.Device]:
    """All local accelerators, or so many host devices where there is only a CPU.

    Raises:
      InputError: fewer host devices than asked for, or JAX finds no device.
    """
    try:
        local = jax.local_devices()
    except (RuntimeError, AssertionError) as e:  # of a platform that is not there
        raise InputError(
            f"JAX finds no device for JAX_PLATFORMS = {os.environ.get('JAX_PLATFORMS', '')!r} "
            f"({one_line(e) or 'that platform is not there'}); set JAX_PLATFORMS=cpu, or unset it"
        ) from e
    if local[0].platform != "cpu":
        return local
    if cpu_devices > len(local):
        raise InputError(
            f"config.cpu_devices = {cpu_devices} is more than the {len(local)} host devices that "
            "JAX started with; call jax.config.update('jax_num_cpu_devices', N) before the first "
            "use of JAX, or use fewer"
        )
    return local[:cpu_devices]
