"""What a train step minimizes: the losses of one device's part of a batch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict

from ltjax.data.loader import Batch
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
from ltjax.training.inputs import AXIS, Resident, Seen
from ltjax.training.optimizer import joined
from ltjax.training.state import TrainState
from ltjax.whitening.linen import FROZEN


class Left(NamedTuple):
    """What a forward pass leaves beside the loss.

    Attributes:
      batch_stats: of batch norm and whitening, after it.
      contrast: what the contrastive loss carries to the next step.
      accuracy: on this device's part of the batch, `[]`.
    """

    batch_stats: Any
    contrast: Any
    accuracy: jax.Array


class Minimized(NamedTuple):
    """The loss of one device's part of a batch, to be differentiated by the trained parameters.

    Attributes:
      model: network.
      loss: loss transform.
      embedded_weight: BET's weight of the embedded mean, or None.
      features_stay: whether statistics are used as they are, and `Resident.frozen` in place of the
        whitening's.
      contrast: adds a contrastive loss, or None.
      diversity: weight of the diversity of several heads, which is subtracted.
    """

    model: Classifier
    loss: LossTransform
    embedded_weight: float | None
    features_stay: bool
    contrast: Contrast | None
    diversity: float

    def __call__(
        self, learned: Any, fixed: Any, state: TrainState, data: Resident, saw: Seen
    ) -> tuple[jax.Array, Left]:
        """The loss, to be mapped over the axis `AXIS`.

        Args:
          learned: the parameters that are trained.
          fixed: the others.
          state: before the step; its own parameters are not read.
          data: what stays on the devices.
          saw: the views of the batch.

        Returns:
          The loss `[]`, and what the forward pass leaves.
        """
        out, new = self._outputs(learned, fixed, state, data, saw)
        experts = new.get(EACH, {}).get("head", {}).get("found")
        bet = _bet(saw.batch, self.embedded_weight)
        inputs = loss_inputs(out.logits, saw.targets, out.whitened)
        inputs = inputs._replace(slots=saw.batch.slots)
        if saw.batch.weights is not None:
            inputs = inputs._replace(weights=saw.batch.weights)
        value, carried = self._of_experts(inputs, experts, data, state.step, bet), state.contrast
        if self.contrast is not None:
            shifted = self.loss.apply(inputs, data.loss_state, step=state.step).logits
            views = Views(new[CONTRAST]["found"], saw.targets, shifted, bet)
            extra, carried = self.contrast.compare(views, carried, data.contrast_state, state.step)
            value += self.contrast.weight * extra
        hits = jnp.argmax(out.logits, axis=-1) == saw.batch.labels
        stats = new.get("batch_stats", state.batch_stats)
        return value, Left(stats, carried, jnp.mean(hits.astype(jnp.float32)))

    def _outputs(
        self, learned: Any, fixed: Any, state: TrainState, data: Resident, saw: Seen
    ) -> tuple[Outputs, dict[str, Any]]:
        """Outputs in training mode, and the variables that the network leaves."""
        params, low_rank = beside(joined(learned, fixed))
        if self.features_stay:
            return _evaluated(self.model, params, state.batch_stats, data.frozen, saw.images), {}
        with norms_in_evaluation(_without(learned)), low_rank:
            return _forward(self.model, params, state, saw.images, saw.depth_keys)

    def _of_experts(
        self,
        inputs: LossInputs,
        experts: jax.Array | None,
        data: Resident,
        step: jax.Array,
        bet: jax.Array | None,
    ) -> jax.Array:
        """The classifier's loss; of several heads the mean of theirs, less their diversity.

        The diversity is that of the logits which the loss adjusts. That of the plain ones would
        undo logit adjustment: heads differ at least cost where they lower those of rare classes.
        """

        def of(given: LossInputs) -> jax.Array:
            return batch_loss(self.loss, given, data.loss_state, step=step, bet=bet, axis_name=AXIS)

        if experts is None:
            return of(inputs)
        heads = [inputs._replace(logits=logits) for logits in experts]
        adjusted = [self.loss.apply(one, data.loss_state, step=step).logits for one in heads]
        apart = jnp.mean(expert_diversity(jnp.stack(adjusted)))
        return jnp.mean(jnp.stack([of(one) for one in heads])) - self.diversity * apart


def _bet(batch: Batch, embedded_weight: float | None) -> jax.Array | None:
    if embedded_weight is None:
        return None
    return bet_weights(batch.embedded, embedded_weight, axis_name=AXIS)


def _without(learned: Any) -> Callable[[tuple[str, ...]], bool]:
    """Says of a layer whether none of its parameters is among those that are trained."""
    layers = {path[:-1] for path in flatten_dict(learned)}
    return lambda path: path not in layers


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
