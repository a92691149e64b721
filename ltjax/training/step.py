"""Per-device train and evaluation steps, to be mapped over devices by `devices.py`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict

from ltjax.augment.device import Augment, normalize
from ltjax.augment.device import augment as augment_images
from ltjax.augment.mixing import BatchMixing, draw_boxes, draw_shares, mix, partners
from ltjax.data.loader import Batch, gather
from ltjax.losses import (
    LossTransform,
    balanced_contrastive,
    batch_loss,
    bet_weights,
    loss_inputs,
)
from ltjax.models import Classifier, Outputs
from ltjax.models.adapters import merged
from ltjax.models.layers import norms_in_evaluation
from ltjax.models.projector import CONTRAST, Projection
from ltjax.training.optimizer import Trainable, ascended, joined, split
from ltjax.training.state import TrainState
from ltjax.whitening.linen import FROZEN, freeze

AXIS = "batch"


class Resident(NamedTuple):
    """What stays on the devices during training.

    Attributes:
      images: uint8 `[N, H, W, C]`, or given features `[N, D]`.
      mean: float32 `[C]`, of the training pixels, or `[D]`, of the features.
      std: float32 `[C]` or `[D]`.
      loss_state: constants of the loss.
      key: PRNG key of the augmentation.
      mixing_state: constants of the mixing.
      frozen: matrices of a whitening that is used and not trained, as `freeze` makes them.
    """

    images: chex.Array
    mean: chex.Array
    std: chex.Array
    loss_state: Any
    key: jax.Array
    mixing_state: Any = ()
    frozen: Any = ()


class Contrast(NamedTuple):
    """How two views of every image are compared; see `balanced_contrastive`.

    Attributes:
      weight: of the contrastive loss, beside that of the classifier on both views.
      temperature: of the contrastive loss.
    """

    weight: float
    temperature: float


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
    """

    # How the images of a batch are mixed and augmented, each time that the step sees them.
    ways = [*([(None, 0)] * regmixup), (mixing, 0), *([(mixing, 1)] * (contrast is not None))]

    def step(state: TrainState, data: Resident, batch: Batch):
        views = [
            training_inputs(data, batch, state.step, augment, way, view=number)
            for way, number in ways
        ]
        images, targets, batch = _together(views, batch)
        learned, fixed = split(state.params, trainable)

        def loss_fn(learned):
            params = merged(joined(learned, fixed))
            if features_stay:
                stats = state.batch_stats
                out, projection = _evaluated(model, params, stats, data.frozen, images), None
            else:
                with norms_in_evaluation(_without(learned)):
                    out, stats, projection = _forward(model, params, state, images)
            bet = None
            if embedded_weight is not None:
                bet = bet_weights(batch.embedded, embedded_weight, axis_name=AXIS)
            inputs = loss_inputs(out.logits, targets, out.whitened)
            if batch.weights is not None:
                inputs = inputs._replace(weights=batch.weights)
            value = batch_loss(
                loss, inputs, data.loss_state, step=state.step, bet=bet, axis_name=AXIS
            )
            if contrast is not None:
                value += contrast.weight * _contrasted(contrast, projection, targets)
            hits = jnp.argmax(out.logits, axis=-1) == batch.labels
            return value, (stats, jnp.mean(hits.astype(jnp.float32)))

        (value, (stats, accuracy)), grads = jax.value_and_grad(loss_fn, has_aux=True)(learned)
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
        new = TrainState(state.step + 1, params, stats, opt_state, ema, state.ema_stats)
        norm = optax.tree.norm(grads)
        metrics = {"loss": value, "accuracy": accuracy, "grad_norm": norm}
        if skip_nonfinite:
            bad = ~(jnp.isfinite(value) & jnp.isfinite(norm))
            old = state._replace(step=new.step)
            new = jax.tree.map(lambda a, b: jnp.where(bad, a, b), old, new)
            metrics["skipped"] = bad.astype(jnp.float32)
        return new, metrics

    return step


def _together(
    views: list[tuple[jax.Array, jax.Array]], batch: Batch
) -> tuple[jax.Array, jax.Array, Batch]:
    """Images and targets of one or several views of a batch, and what the loss reads of it."""
    if len(views) == 1:
        return *views[0], batch
    classes = next((t.shape[1] for _, t in views if t.ndim == 2), None)
    if classes is not None:  # labels of images that are not mixed, beside the targets of others
        views = [(x, t if t.ndim == 2 else jax.nn.one_hot(t, classes)) for x, t in views]
    images, targets = (jnp.concatenate(parts) for parts in zip(*views, strict=True))
    read = {"labels": batch.labels, "embedded": batch.embedded, "weights": batch.weights}
    tiled = {name: x if x is None else jnp.tile(x, len(views)) for name, x in read.items()}
    return images, targets, batch._replace(**tiled)


def _contrasted(contrast: Contrast, found: Projection | None, labels: jax.Array) -> jax.Array:
    assert found is not None  # the network has a projector
    each = balanced_contrastive(
        found.vectors, labels, found.centers, temperature=contrast.temperature, axis_name=AXIS
    )
    return jnp.mean(each)


def _without(learned: Any) -> Callable[[tuple[str, ...]], bool]:
    """Says of a layer whether none of its parameters is among those that are trained."""
    layers = {path[:-1] for path in flatten_dict(learned)}
    return lambda path: path not in layers


def training_inputs(
    data: Resident,
    batch: Batch,
    step: jax.Array,
    augment: Augment | None,
    mixing: BatchMixing | None,
    *,
    view: int = 0,
) -> tuple[jax.Array, jax.Array]:
    """What the network and the loss see of a training batch; to be mapped over the axis `AXIS`.

    Args:
      data: what stays on the devices.
      batch: this device's part of the batch.
      step: of the batch, `[]` int32; the randomness is a function of it.
      augment: see `make_train_step`.
      mixing: see `make_train_step`.
      view: number of the augmentation of the same images, from 0.

    Returns:
      Normalized images `[B, H, W, C]`, and labels `[B]` or, with mixing, targets `[B, classes]`.
    """
    step_key = jax.random.fold_in(data.key, step)
    keys = jax.vmap(lambda slot: jax.random.fold_in(step_key, slot))(batch.slots)
    if view:
        keys = jax.vmap(lambda key: jax.random.fold_in(key, 2**31 + view))(keys)
    images = gather(data.images, batch)
    if augment is not None:
        images = augment_images(images, keys, augment)
    images, targets = normalize(images, data.mean, data.std), batch.labels
    if mixing is not None:
        images, targets = _mixed(mixing, data, images, batch, keys, step_key)
    return images, targets


def make_freeze(
    model: Classifier, image_shape: tuple[int, ...]
) -> Callable[[TrainState], Variables]:
    """The variables of an evaluation, the roots of the whitening taken once for all batches."""

    def variables(state: TrainState) -> Variables:
        image = jnp.zeros((1, *image_shape), jnp.float32)
        return freeze(model, state.variables, image, train=False)

    return variables


def _forward(
    model: Classifier, params: Any, state: TrainState, images: jax.Array
) -> tuple[Outputs, Any, Projection | None]:
    """Outputs in training mode, new batch statistics, and the projection if there is one."""
    variables = {"params": params, "batch_stats": state.batch_stats}
    out, new = model.apply(variables, images, train=True, mutable=["batch_stats", CONTRAST])
    found = new[CONTRAST]["found"] if CONTRAST in new else None
    return out, new.get("batch_stats", state.batch_stats), found


def _evaluated(
    model: Classifier, params: Any, stats: Any, frozen: Any, images: jax.Array
) -> Outputs:
    """Outputs with given statistics and matrices."""
    variables = {"params": params, "batch_stats": stats, **({FROZEN: frozen} if frozen else {})}
    out = model.apply(variables, images, train=False)
    assert isinstance(out, Outputs)  # a pair only where variables are mutable
    return out


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
    own = None
    if mixing.boxes:
        places = jax.vmap(lambda key: jax.random.fold_in(key, 7))(keys)
        own, shares = draw_boxes(places, shares, *images.shape[1:3])
    return mix(
        mixing,
        data.mixing_state,
        (images, all_images[order]),
        (batch.labels, all_labels[order]),
        shares,
        own,
    )


def make_eval_step(model: Classifier) -> EvalStep:
    """The evaluation of one device's part of a batch: `Outputs` per example."""

    def step(variables: Variables, data: Resident, batch: Batch) -> Outputs:
        images = normalize(gather(data.images, batch), data.mean, data.std)
        out = model.apply(variables, images, train=False)
        assert isinstance(out, Outputs)  # apply returns a pair only where variables are mutable
        return out

    return step
