"""Per-device train and evaluation steps, and the one place that maps them over devices."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ltjax.data.augment import normalise, random_shift
from ltjax.data.loader import Batch, gather
from ltjax.errors import InputError
from ltjax.losses import LossTransform, batch_loss, loss_inputs
from ltjax.models import Classifier, Outputs
from ltjax.training.state import TrainState
from ltjax.whitening import freeze

AXIS = "batch"


class Resident(NamedTuple):
    """What stays on the devices during training.

    Attributes:
      images: uint8 `[N, H, W, C]`.
      mean: float32 `[C]`, of the training pixels.
      std: float32 `[C]`.
      loss_state: constants of the loss.
      key: PRNG key of the augmentation.
    """

    images: chex.Array
    mean: chex.Array
    std: chex.Array
    loss_state: Any
    key: jax.Array


TrainStep = Callable[[TrainState, Resident, Batch], tuple[TrainState, dict[str, jax.Array]]]
Variables = dict[str, Any]
EvalStep = Callable[[Variables, Resident, Batch], Outputs]


def make_train_step(
    model: Classifier,
    loss: LossTransform,
    optimizer: optax.GradientTransformation,
    *,
    max_shift: int,
) -> TrainStep:
    """The step of one device, to be mapped over the axis `AXIS`.

    Gradients are averaged over the devices; batch norm and whitening reduce their own
    statistics, so every device holds the same new state. Randomness is a function of the
    key, the step and the slot in the global batch, not of the device.
    """

    def step(state: TrainState, data: Resident, batch: Batch):
        step_key = jax.random.fold_in(data.key, state.step)
        keys = jax.vmap(lambda slot: jax.random.fold_in(step_key, slot))(batch.slots)
        images = random_shift(gather(data.images, batch), keys, max_shift)
        images = normalise(images, data.mean, data.std)

        def loss_fn(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            out, updates = model.apply(variables, images, train=True, mutable=["batch_stats"])
            inputs = loss_inputs(out.logits, batch.labels, batch.embedded)
            value = batch_loss(loss, inputs, data.loss_state, step=state.step)
            hits = jnp.argmax(out.logits, axis=-1) == batch.labels
            return value, (updates["batch_stats"], jnp.mean(hits.astype(jnp.float32)))

        (value, (stats, accuracy)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        grads, value, accuracy = jax.lax.pmean((grads, value, accuracy), AXIS)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": value, "accuracy": accuracy, "grad_norm": optax.tree.norm(grads)}
        return TrainState(state.step + 1, params, stats, opt_state), metrics

    return step


def make_freeze(
    model: Classifier, image_shape: tuple[int, ...]
) -> Callable[[TrainState], Variables]:
    """The variables of an evaluation, the roots of the whitening taken once for all batches."""

    def variables(state: TrainState) -> Variables:
        image = jnp.zeros((1, *image_shape), jnp.float32)
        return freeze(model, state.variables, image, train=False)

    return variables


def make_eval_step(model: Classifier) -> EvalStep:
    """The evaluation of one device's part of a batch: `Outputs` per example."""

    def step(variables: Variables, data: Resident, batch: Batch) -> Outputs:
        images = normalise(gather(data.images, batch), data.mean, data.std)
        out = model.apply(variables, images, train=False)
        assert isinstance(out, Outputs)  # apply returns a pair only where variables are mutable
        return out

    return step


class Mapping:
    """Maps per-device steps over devices with `jax.pmap`, and places their arguments.

    Args:
      devices: the devices to use.
    """

    def __init__(self, devices: Sequence[jax.Device]):
        self.devices = list(devices)
        # Arguments that all devices share must already lie on them all, or every call
        # copies them; with pmap's own axis name the step is traced once.
        self._shared = NamedSharding(Mesh(np.array(self.devices), (AXIS,)), PartitionSpec())

    @property
    def count(self) -> int:
        """Number of devices."""
        return len(self.devices)

    def replicate(self, tree: Any) -> Any:
        """Puts a tree of arrays on every device."""
        return jax.device_put(tree, self._shared)

    def split(self, batch: Batch) -> Batch:
        """Gives every device its slice of a batch: `[B] -> [devices, B / devices]`."""
        return Batch(*(x.reshape(self.count, -1, *x.shape[1:]) for x in batch))

    def train_step(self, step: TrainStep) -> TrainStep:
        """Maps a train step; the old state's buffers are reused for the new one."""
        return jax.pmap(
            step,
            axis_name=AXIS,
            in_axes=(None, None, 0),
            out_axes=(None, None),
            devices=self.devices,
            donate_argnums=0,
        )

    def replicated(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compiles a function of arguments that all devices share; so is its result."""
        return jax.jit(function, out_shardings=self._shared)

    def eval_step(self, step: EvalStep) -> EvalStep:
        """Maps an evaluation step; outputs have the axes `[devices, B / devices, ...]`."""
        return jax.pmap(
            step, axis_name=AXIS, in_axes=(None, None, 0), out_axes=0, devices=self.devices
        )


def choose_devices(cpu_devices: int) -> list[jax.Device]:
    """All local accelerators, or so many host devices where there is only a CPU.

    Raises:
      InputError: fewer host devices than asked for.
    """
    local = jax.local_devices()
    if local[0].platform != "cpu":
        return local
    if cpu_devices > len(local):
        raise InputError(
            f"config.cpu_devices = {cpu_devices} is more than the {len(local)} host devices that "
            "JAX started with; call jax.config.update('jax_num_cpu_devices', N) before the first "
            "use of JAX, or use fewer"
        )
    return local[:cpu_devices]
