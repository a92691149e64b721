"""What the network and the loss see of a training batch, on each device."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from ltjax.augment.device import Augment, normalize
from ltjax.augment.device import augment as augment_images
from ltjax.augment.mixing import BatchMixing, draw_boxes, draw_shares, mix, partners
from ltjax.data.loader import Batch, gather

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
      contrast_state: constants of the contrastive loss.
    """

    images: chex.Array
    mean: chex.Array
    std: chex.Array
    loss_state: Any
    key: jax.Array
    mixing_state: Any = ()
    frozen: Any = ()
    contrast_state: Any = ()


# How the images of a batch are mixed, and the number of their augmentation.
Way = tuple[BatchMixing | None, int]


def ways_of(
    mixing: BatchMixing | None, *, regmixup: bool = False, twice: bool = False
) -> list[Way]:
    """How the images of a batch are mixed and augmented, each time that a step sees them.

    Args:
      mixing: mixes images and labels within the batch, or None.
      regmixup: whether the images are also seen without it.
      twice: whether they are augmented twice.

    Returns:
      One for each view.
    """
    return [*([(None, 0)] * regmixup), (mixing, 0), *([(mixing, 1)] * twice)]


class View(NamedTuple):
    """A batch as it is seen once.

    Attributes:
      images: normalized, `[B, H, W, C]`.
      targets: labels `[B]`, or probabilities `[B, classes]`.
      weights: of the examples in the loss, `[B]`, or None where all are 1.
    """

    images: jax.Array
    targets: jax.Array
    weights: jax.Array | None

    def with_targets(self, classes: int) -> "View":
        """The view with probabilities in place of labels."""
        if self.targets.ndim == 2:
            return self
        return self._replace(targets=jax.nn.one_hot(self.targets, classes))


class Seen(NamedTuple):
    """What a step sees of a batch, in one or several views one after another.

    Attributes:
      images: normalized, `[V B, H, W, C]`.
      targets: labels `[V B]`, or probabilities `[V B, classes]`.
      batch: the batch; what the loss reads of it is repeated for every view, and the slots are
        numbered on.
      depth_keys: PRNG keys of stochastic depth, `[V B]`, or None.
    """

    images: jax.Array
    targets: jax.Array
    batch: Batch
    depth_keys: jax.Array | None = None


def seen(
    data: Resident,
    batch: Batch,
    step: jax.Array,
    augment: Augment | None,
    ways: Sequence[Way],
    *,
    drops: bool = False,
) -> Seen:
    """The views of a batch; to be mapped over the axis `AXIS`.

    Args:
      data: what stays on the devices.
      batch: this device's part of the batch.
      step: of the batch, `[]` int32.
      augment: see `training_inputs`.
      ways: one for each view.
      drops: whether the network draws which residual branches it drops.

    Returns:
      What the step sees.
    """
    views = [
        training_inputs(data, batch, step, augment, mixing, view=view) for mixing, view in ways
    ]
    found = _together(views, batch)
    if not drops:
        return found
    # Of every view by its place; other draws fold smaller or larger numbers into these keys.
    keys = example_keys(jax.random.fold_in(data.key, step), batch)
    folded = [
        jax.vmap(lambda key, n=2**30 + place: jax.random.fold_in(key, n))(keys)
        for place in range(len(ways))
    ]
    return found._replace(depth_keys=jnp.concatenate(folded))


def _together(views: list[View], batch: Batch) -> Seen:
    """One or several views of a batch, and what the loss reads of it."""
    if len(views) == 1:
        images, targets, weights = views[0]
        return Seen(images, targets, batch._replace(weights=weights))
    classes = next((view.targets.shape[1] for view in views if view.targets.ndim == 2), None)
    if classes is not None:  # labels of images that are not mixed, beside the targets of others
        views = [view.with_targets(classes) for view in views]
    images, targets, weights = jax.tree.map(lambda *parts: jnp.concatenate(parts), *views)
    read = {"labels": batch.labels, "embedded": batch.embedded}
    tiled = {name: x if x is None else jnp.tile(x, len(views)) for name, x in read.items()}
    whole = len(batch.slots) * jax.lax.axis_size(AXIS)
    slots = jnp.concatenate([batch.slots + view * whole for view in range(len(views))])
    return Seen(images, targets, batch._replace(slots=slots, weights=weights, **tiled))


def example_keys(step_key: jax.Array, batch: Batch) -> jax.Array:
    """A PRNG key for each image of a batch, a function of the step's key and the slot.

    Args:
      step_key: of the step, `[]`.
      batch: this device's part of the batch.

    Returns:
      Keys `[B]`.
    """
    return jax.vmap(lambda slot: jax.random.fold_in(step_key, slot))(batch.slots)


def training_inputs(
    data: Resident,
    batch: Batch,
    step: jax.Array,
    augment: Augment | None,
    mixing: BatchMixing | None,
    *,
    view: int = 0,
) -> View:
    """What the network and the loss see of a training batch; to be mapped over the axis `AXIS`.

    Args:
      data: what stays on the devices.
      batch: this device's part of the batch.
      step: of the batch, `[]` int32; the randomness is a function of it.
      augment: see `make_train_step`.
      mixing: see `make_train_step`.
      view: number of the augmentation of the same images, from 0.

    Returns:
      Images, labels and weights; with mixing, those of mixed examples.
    """
    step_key = jax.random.fold_in(data.key, step)
    keys = example_keys(step_key, batch)
    if view:
        keys = jax.vmap(lambda key: jax.random.fold_in(key, 2**31 + view))(keys)
    images = gather(data.images, batch)
    if augment is not None:
        images = augment_images(images, keys, augment)
    images = normalize(images, data.mean, data.std)
    if mixing is not None:
        return _mixed(mixing, data, images, batch, keys, step_key)
    return View(images, batch.labels, batch.weights)


def _mixed(
    mixing: BatchMixing,
    data: Resident,
    images: jax.Array,
    batch: Batch,
    keys: jax.Array,
    step_key: jax.Array,
) -> View:
    """The batch mixed with partners from the whole of it, whatever the devices."""
    everyone = (images, batch.labels, batch.embedded, batch.weights)
    all_images, all_labels, all_embedded, all_weights = jax.lax.all_gather(
        everyone, AXIS, tiled=True
    )
    # Slots count from 0, so this key is none of theirs.
    order = partners(jax.random.fold_in(step_key, 2**31), all_embedded)[batch.slots]
    shares = draw_shares(jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys), mixing.alpha)
    own = None
    if mixing.boxes:
        places = jax.vmap(lambda key: jax.random.fold_in(key, 7))(keys)
        own, shares = draw_boxes(places, shares, *images.shape[1:3])
    mixed, targets = mix(
        mixing,
        data.mixing_state,
        (images, all_images[order]),
        (batch.labels, all_labels[order]),
        shares,
        own,
        None if batch.weights is None else (batch.weights, all_weights[order]),
    )
    if batch.weights is None:
        return View(mixed, targets, None)
    # Each half of a target has the weight of its own example.
    total = jnp.sum(targets, axis=-1)
    return View(mixed, targets / total[:, None], total)
