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
from ltjax.losses import (
    BatchMixing,
    LossTransform,
    batch_loss,
    draw_shares,
    loss_inputs,
    mix,
    partners,
)
from ltjax.models import Classifier, Outputs
from ltjax.training.optimizer import Trainable, freeze
from ltjax.training.state import TrainState

AXIS = "batch"


class Resident(NamedTuple):
    """What stays on the devices during training.

    Attributes:
      images: uint8 `[N, H, W, C]`.
      mean: float32 `[C]`, of the training pixels.
      std: float32 `[C]`.
      loss_state: constants of the loss.
      key: PRNG key of the augmentation.
      mixing_state: constants of the mixing.
    """

    images: chex.Array
    mean: chex.Array
    std: chex.Array
    loss_state: Any
    key: jax.Array
    mixing_state: Any = ()


TrainStep = Callable[[TrainState, Resident, Batch], tuple[TrainState, dict[str, jax.Array]]]
EvalStep = Callable[[TrainState, Resident, Batch], Outputs]


def make_train_step(
    model: Classifier,
    loss: LossTransform,
    optimizer: optax.GradientTransformation,
    *,
    max_shift: int,
    mixing: BatchMixing | None = None,
    trainable: Trainable = None,
) -> TrainStep:
    """The step of one device, to be mapped over the axis `AXIS`.

    Gradients are averaged over the devices; batch norm and whitening reduce their own
    statistics, so every device holds the same new state. Randomness is a function of the
    key, the step and the slot in the global batch, not of the device.

    Args:
      model: network.
      loss: loss transform.
      optimizer: optax transformation.
      max_shift: of the augmentation, in pixels.
      mixing: mixes images and labels within the batch, or None.
      trainable: part of the parameters that is trained (see `freeze`), or None for all; with
        a part, statistics of batch norm and whitening are used and not updated.
    """

    def step(state: TrainState, data: Resident, batch: Batch):
        step_key = jax.random.fold_in(data.key, state.step)
        keys = jax.vmap(lambda slot: jax.random.fold_in(step_key, slot))(batch.slots)
        images = random_shift(gather(data.images, batch), keys, max_shift)
        images, targets = normalise(images, data.mean, data.std), batch.labels
        if mixing is not None:
            images, targets = _mixed(mixing, data, images, batch, keys, step_key)

        def loss_fn(params):
            out, stats = _forward(model, freeze(params, trainable), state, images, trainable)
            inputs = loss_inputs(out.logits, targets, batch.embedded)
            value = batch_loss(loss, inputs, data.loss_state, step=state.step)
            hits = jnp.argmax(out.logits, axis=-1) == batch.labels
            return value, (stats, jnp.mean(hits.astype(jnp.float32)))

        (value, (stats, accuracy)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        grads, value, accuracy = jax.lax.pmean((grads, value, accuracy), AXIS)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": value, "accuracy": accuracy, "grad_norm": optax.tree.norm(grads)}
        return TrainState(state.step + 1, params, stats, opt_state), metrics

    return step


def _forward(
    model: Classifier, params: Any, state: TrainState, images: jax.Array, trainable: Trainable
) -> tuple[Outputs, Any]:
    """Outputs and new batch statistics."""
    variables = {"params": params, "batch_stats": state.batch_stats}
    if trainable is not None:
        out = model.apply(variables, images, train=False)
        assert isinstance(out, Outputs)
        return out, state.batch_stats
    out, updates = model.apply(variables, images, train=True, mutable=["batch_stats"])
    return out, updates.get("batch_stats", state.batch_stats)


def _mixed(
    mixing: BatchMixing,
    data: Resident,
    images: jax.Array,
    batch: Batch,
    keys: jax.Array,
    step_key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Images and targets mixed with partners from the whole batch, whatever the devices."""
    everyone = (images, batch.labels, batch.embedded)
    all_images, all_labels, all_embedded = jax.lax.all_gather(everyone, AXIS, tiled=True)
    # Slots count from 0, so this key is none of theirs.
    order = partners(jax.random.fold_in(step_key, 2**31), all_embedded)[batch.slots]
    shares = draw_shares(jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys), mixing.alpha)
    return mix(
        mixing,
        data.mixing_state,
        (images, all_images[order]),
        (batch.labels, all_labels[order]),
        shares,
    )


def make_eval_step(model: Classifier) -> EvalStep:
    """The evaluation of one device's part of a batch: `Outputs` per example."""

    def step(state: TrainState, data: Resident, batch: Batch) -> Outputs:
        images = normalise(gather(data.images, batch), data.mean, data.std)
        out = model.apply(state.variables, images, train=False)
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

    def place(self, shapes: Any) -> Any:
        """Shapes of a tree as it would lie on every device, to restore one there."""
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._shared), shapes
        )

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
