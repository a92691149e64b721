"""Per-device train and evaluation steps, to be mapped over devices by `devices.py`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ltjax.augment.device import Augment, normalize
from ltjax.augment.mixing import BatchMixing
from ltjax.data.loader import Batch, gather
from ltjax.losses import LossTransform
from ltjax.models import Classifier, Outputs
from ltjax.training.contrast import Contrast
from ltjax.training.inputs import AXIS, Resident, seen, ways_of
from ltjax.training.minimized import Minimized
from ltjax.training.optimizer import Trainable, ascended, joined, split
from ltjax.training.state import TrainState
from ltjax.whitening.linen import freeze

TrainStep = Callable[[TrainState, Resident, Batch], tuple[TrainState, dict[str, jax.Array]]]
Variables = dict[str, Any]
EvalStep = Callable[[Variables, Resident, Batch], Outputs]
Update = Callable[[TrainState, Any], TrainState]


def make_train_step(
    model: Classifier,
    loss: LossTransform,
    optimizer: optax.GradientTransformation,
    *,
    embedded_weight: float | None,
    augment: Augment | None = None,
    averaging: optax.Schedule | None = None,
    sam_rho: float = 0.0,
    skip_nonfinite: bool = False,
    mixing: BatchMixing | None = None,
    regmixup: bool = False,
    trainable: Trainable = None,
    features_stay: bool = False,
    contrast: Contrast | None = None,
    projection: Callable[[Any, Any], Any] | None = None,
    diversity: float = 0.0,
) -> TrainStep:
    """The step of one device and one seed, to be mapped over the axis `AXIS`.

    Gradients are averaged over the devices; batch norm and whitening reduce their own
    statistics, so every device holds the same new state. Randomness is a function of the
    key, the step and the slot in the global batch, not of the device.

    Args:
      model: network.
      loss: loss transform.
      optimizer: optax transformation.
      embedded_weight: BET's weight of the embedded mean, or None where the sampler embeds
        nothing. It has no default, so that no caller leaves BET's loss side out unknowing.
      augment: what is done to images on the device; None is nothing.
      averaging: what the new parameters weigh in their moving average at a step; None keeps none.
      sam_rho: radius of sharpness-aware minimization, which takes the gradient a second time; 0
        turns it off. The running statistics follow the first pass, at the parameters themselves.
      skip_nonfinite: leave the state as it is where loss or gradient are not finite, but for the
        counts of the step and of the rate's schedule.
      mixing: mixes images and labels within the batch, or None.
      regmixup: whether the loss is also taken of the images that are not mixed, with equal weight.
      trainable: what is trained, or None for all; batch norms whose parameters are not use their
        running statistics and leave them as they are.
      features_stay: whether backbone and whitening are not trained at all: the statistics of both
        are used and not updated, and `Resident.frozen` holds the matrices.
      contrast: adds a contrastive loss, for which every image is augmented twice; None adds none.
      projection: `(trained parameters, others) -> trained parameters` after every update, or None.
      diversity: weight of the diversity of several heads, which is subtracted from their loss.
    """
    minimized = Minimized(model, loss, embedded_weight, features_stay, contrast, diversity)
    update = _update(optimizer, trainable, averaging, projection)
    ways = ways_of(mixing, regmixup=regmixup, twice=contrast is not None)
    drops = getattr(model.backbone, "stochastic_depth", 0.0) > 0 and not features_stay

    def step(state: TrainState, data: Resident, batch: Batch):
        saw = seen(data, batch, state.step, augment, ways, drops=drops)
        learned, fixed = split(state.params, trainable)

        def loss_fn(learned):
            return minimized(learned, fixed, state, data, saw)

        (value, left), grads = jax.value_and_grad(loss_fn, has_aux=True)(learned)
        grads, value, accuracy = jax.lax.pmean((grads, value, left.accuracy), AXIS)
        if sam_rho:
            higher = ascended(learned, grads, sam_rho)
            grads = jax.lax.pmean(jax.grad(loss_fn, has_aux=True)(higher)[0], AXIS)
        new = update(state, grads)._replace(batch_stats=left.batch_stats, contrast=left.contrast)
        norm = optax.tree.norm(grads)
        metrics = {"loss": value, "accuracy": accuracy, "grad_norm": norm}
        if skip_nonfinite:
            bad = ~(jnp.isfinite(value) & jnp.isfinite(norm))
            new = _skipped(bad, state._replace(step=new.step), new)
            metrics["skipped"] = bad.astype(jnp.float32)
        return new, metrics

    return step


def _skipped(bad: jax.Array, old: TrainState, new: TrainState) -> TrainState:
    """The old state where a step is bad, but the schedules count it: rates go by the step."""
    counter = optax.ScaleByScheduleState

    def chosen(a: Any, b: Any) -> Any:
        return b if isinstance(b, counter) else jnp.where(bad, a, b)

    return jax.tree.map(chosen, old, new, is_leaf=lambda x: isinstance(x, counter))


def _update(
    optimizer: optax.GradientTransformation,
    trainable: Trainable,
    averaging: optax.Schedule | None,
    projection: Callable[[Any, Any], Any] | None,
) -> Update:
    """The next state, but for what the forward pass leaves; see `make_train_step`."""

    def update(state: TrainState, grads: Any) -> TrainState:
        learned, fixed = split(state.params, trainable)
        updates, opt_state = optimizer.update(grads, state.opt_state, learned)
        learned = optax.apply_updates(learned, updates)
        if projection is not None:
            learned = projection(learned, fixed)
        params, ema = joined(learned, fixed), state.ema
        if averaging is not None:
            averaged, rest = split(ema, trainable)
            weight = averaging(state.step)
            ema = joined(optax.incremental_update(learned, averaged, weight), rest)
        return state._replace(step=state.step + 1, params=params, opt_state=opt_state, ema=ema)

    return update


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
        images = normalize(gather(data.images, batch), data.mean, data.std)
        out = model.apply(variables, images, train=False)
        assert isinstance(out, Outputs)  # apply returns a pair only where variables are mutable
        return out

    return step
