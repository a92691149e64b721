"""Per-device train and evaluation steps, to be mapped over devices by `devices.py`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict

from ltjax.augment.device import Augment, normalize
from ltjax.augment.mixing import BatchMixing
from ltjax.data.loader import Batch, gather
from ltjax.losses import (
    LossInputs,
    LossTransform,
    batch_loss,
    bet_weights,
    expert_diversity,
    loss_inputs,
)
from ltjax.models import Classifier, Outputs
from ltjax.models.adapters import beside
from ltjax.models.depth import DEPTH
from ltjax.models.experts import EACH
from ltjax.models.layers import norms_in_evaluation
from ltjax.models.projector import CONTRAST
from ltjax.training.contrast import Contrast, Views
from ltjax.training.inputs import AXIS, Resident, seen
from ltjax.training.optimizer import Trainable, ascended, joined, split
from ltjax.training.state import TrainState
from ltjax.whitening.linen import FROZEN, freeze

TrainStep = Callable[[TrainState, Resident, Batch], tuple[TrainState, dict[str, jax.Array]]]
Variables = dict[str, Any]
EvalStep = Callable[[Variables, Resident, Batch], Outputs]


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
      skip_nonfinite: leave the state as it is where loss or gradient are not finite.
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

    # How the images of a batch are mixed and augmented, each time that the step sees them.
    ways = [*([(None, 0)] * regmixup), (mixing, 0), *([(mixing, 1)] * (contrast is not None))]
    drops = getattr(model.backbone, "stochastic_depth", 0.0) > 0 and not features_stay

    def step(state: TrainState, data: Resident, batch: Batch):
        images, targets, batch, depth_keys = seen(
            data, batch, state.step, augment, ways, drops=drops
        )
        learned, fixed = split(state.params, trainable)

        def loss_fn(learned):
            params, low_rank = beside(joined(learned, fixed))
            if features_stay:
                out = _evaluated(model, params, state.batch_stats, data.frozen, images)
                new: dict[str, Any] = {}
            else:
                with norms_in_evaluation(_without(learned)), low_rank:
                    out, new = _forward(model, params, state, images, depth_keys)
            stats = new.get("batch_stats", state.batch_stats)
            experts = new.get(EACH, {}).get("head", {}).get("found")
            bet = _bet(batch, embedded_weight)
            inputs = loss_inputs(out.logits, targets, out.whitened)
            if batch.weights is not None:
                inputs = inputs._replace(weights=batch.weights)
            value = _of_experts(loss, inputs, experts, data, state.step, bet, diversity)
            carried = state.contrast
            if contrast is not None:
                shifted = loss.apply(inputs, data.loss_state, step=state.step).logits
                views = Views(new[CONTRAST]["found"], targets, shifted, bet)
                extra, carried = contrast.compare(views, carried, data.contrast_state, state.step)
                value += contrast.weight * extra
            hits = jnp.argmax(out.logits, axis=-1) == batch.labels
            return value, (stats, carried, jnp.mean(hits.astype(jnp.float32)))

        (value, (stats, carried, accuracy)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            learned
        )
        grads, value, accuracy = jax.lax.pmean((grads, value, accuracy), AXIS)
        if sam_rho:
            higher = ascended(learned, grads, sam_rho)
            grads = jax.lax.pmean(jax.grad(loss_fn, has_aux=True)(higher)[0], AXIS)
        updates, opt_state = optimizer.update(grads, state.opt_state, learned)
        learned = optax.apply_updates(learned, updates)
        if projection is not None:
            learned = projection(learned, fixed)
        params, ema = joined(learned, fixed), state.ema
        if averaging is not None:
            averaged, rest = split(ema, trainable)
            weight = averaging(state.step)
            ema = joined(optax.incremental_update(learned, averaged, weight), rest)
        new = TrainState(state.step + 1, params, stats, opt_state, ema, state.ema_stats, carried)
        norm = optax.tree.norm(grads)
        metrics = {"loss": value, "accuracy": accuracy, "grad_norm": norm}
        if skip_nonfinite:
            bad = ~(jnp.isfinite(value) & jnp.isfinite(norm))
            old = state._replace(step=new.step)
            new = jax.tree.map(lambda a, b: jnp.where(bad, a, b), old, new)
            metrics["skipped"] = bad.astype(jnp.float32)
        return new, metrics

    return step


def _of_experts(
    loss: LossTransform,
    inputs: LossInputs,
    experts: jax.Array | None,
    data: Resident,
    step: jax.Array,
    bet: jax.Array | None,
    diversity: float,
) -> jax.Array:
    """The classifier's loss; of several heads the mean of theirs, less their diversity."""

    def of(given: LossInputs) -> jax.Array:
        return batch_loss(loss, given, data.loss_state, step=step, bet=bet, axis_name=AXIS)

    if experts is None:
        return of(inputs)
    each = [of(inputs._replace(logits=logits)) for logits in experts]
    return jnp.mean(jnp.stack(each)) - diversity * jnp.mean(expert_diversity(experts))


def _bet(batch: Batch, embedded_weight: float | None) -> jax.Array | None:
    if embedded_weight is None:
        return None
    return bet_weights(batch.embedded, embedded_weight, axis_name=AXIS)


def _without(learned: Any) -> Callable[[tuple[str, ...]], bool]:
    """Says of a layer whether none of its parameters is among those that are trained."""
    layers = {path[:-1] for path in flatten_dict(learned)}
    return lambda path: path not in layers


def make_freeze(
    model: Classifier, image_shape: tuple[int, ...]
) -> Callable[[TrainState], Variables]:
    """The variables of an evaluation, the roots of the whitening taken once for all batches."""

    def variables(state: TrainState) -> Variables:
        image = jnp.zeros((1, *image_shape), jnp.float32)
        return freeze(model, state.variables, image, train=False)

    return variables


def _forward(
    model: Classifier,
    params: Any,
    state: TrainState,
    images: jax.Array,
    depth_keys: jax.Array | None,
) -> tuple[Outputs, dict[str, Any]]:
    """Outputs in training mode, new batch statistics, and what the network leaves for the loss."""
    variables = {"params": params, "batch_stats": state.batch_stats}
    if depth_keys is not None:
        variables[DEPTH] = {"backbone": {"keys": depth_keys}}
    left = ["batch_stats", CONTRAST, EACH]
    out, new = model.apply(variables, images, train=True, mutable=left)
    return out, dict(new)


def _evaluated(
    model: Classifier, params: Any, stats: Any, frozen: Any, images: jax.Array
) -> Outputs:
    """Outputs with given statistics and matrices."""
    variables = {"params": params, "batch_stats": stats, **({FROZEN: frozen} if frozen else {})}
    out = model.apply(variables, images, train=False)
    assert isinstance(out, Outputs)  # a pair only where variables are mutable
    return out


def make_eval_step(model: Classifier) -> EvalStep:
    """The evaluation of one device's part of a batch: `Outputs` per example."""

    def step(variables: Variables, data: Resident, batch: Batch) -> Outputs:
        images = normalize(gather(data.images, batch), data.mean, data.std)
        out = model.apply(variables, images, train=False)
        assert isinstance(out, Outputs)  # apply returns a pair only where variables are mutable
        return out

    return step
