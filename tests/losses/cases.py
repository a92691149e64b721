"""One row per loss: the transform, the function, and the NumPy reference of both."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import losses
from tests.losses import reference

STEP = 2


class Case(NamedTuple):
    """A loss in its three forms.

    Attributes:
      make: makes the transform.
      function: `(z, y, counts) -> [B]`, its value at step `STEP`.
      reference: `(z, y, counts) -> float`.
      frozen: the reference takes fixed logits too, through which no gradient flows.
      bet: BET's weight, or None.
      batch: the loss of an example depends on the others of its batch.
    """

    make: Callable[[], losses.LossTransform]
    function: Callable[..., jax.Array]
    reference: Callable[..., float]
    frozen: bool = False
    bet: float | None = None
    batch: bool = False


def flags(size):
    """The last third of the batch is embedded."""
    return np.arange(size) >= size - size // 3


def scalar(case, transform, inputs, state, step=STEP):
    """The batch's loss, with BET's weights where the case has them."""
    bet = None if case.bet is None else losses.bet_weights(flags(len(inputs.weights)), case.bet)
    return losses.batch_loss(transform, inputs, state, step=jnp.asarray(step), bet=bet)


def weights_of(make, loss=reference.weighted):
    return lambda z, y, n: loss(z, y, n, make(n))


def averaged(weights, each, labels):
    """Losses whose mean is the sum of all, divided by the sum of the examples' weights."""
    return each / jnp.mean(weights[labels]).astype(each.dtype)


def key():
    """The key that the transform of seed 0 has at `STEP`."""
    return jax.random.fold_in(jax.random.key(0), STEP)


def class_balanced(n):
    return losses.class_balanced_weights(n, 0.999)


def deferred(z, y, n, start):
    weights = losses.scheduled_weights(class_balanced(n), losses.deferred(start)(STEP))
    return averaged(weights, losses.weighted_cross_entropy(z, y, weights), y)


CASES = {
    "cross_entropy": Case(
        losses.identity, lambda z, y, n: losses.cross_entropy(z, y), reference.cross_entropy
    ),
    "logit_adjustment": Case(
        lambda: losses.logit_adjustment_transform(0.7),
        lambda z, y, n: losses.logit_adjusted_cross_entropy(z, y, n, 0.7),
        lambda z, y, n: reference.logit_adjustment(z, y, n, 0.7),
    ),
    "balanced_softmax": Case(
        losses.balanced_softmax_transform, losses.balanced_softmax, reference.balanced_softmax
    ),
    "vs": Case(
        lambda: losses.vector_scaling_transform(0.15, 1.25),
        lambda z, y, n: losses.vector_scaling(z, y, n, 0.15, 1.25),
        lambda z, y, n: reference.vector_scaling(z, y, n, 0.15, 1.25),
    ),
    "ldam": Case(
        lambda: losses.ldam_transform(0.5, 30.0),
        lambda z, y, n: losses.ldam(z, y, n, 0.5, 30.0),
        lambda z, y, n: reference.ldam(z, y, n, 0.5, 30.0),
    ),
    "lade": Case(
        lambda: losses.lade_transform(0.1, 0.2),
        lambda z, y, n: losses.lade(z, y, n, 0.1, 0.2),
        lambda z, y, n: reference.lade(z, y, n, 0.1, 0.2),
        batch=True,
    ),
    "lade_published": Case(
        lambda: losses.lade_transform(0.3, 0.01, published=True),
        lambda z, y, n: losses.lade(z, y, n, 0.3, 0.01, published=True),
        lambda z, y, n: reference.lade(z, y, n, 0.3, 0.01, published=True),
        batch=True,
    ),
    "equalization": Case(
        lambda: losses.equalization_transform(0.8, 1.0),
        lambda z, y, n: losses.equalization(z, y, n, 0.8, 1.0, key=key()),
        lambda z, y, n: reference.equalization(z, y, n, 0.8),
        batch=True,
    ),
    "seesaw": Case(
        lambda: losses.seesaw_transform(0.8, 2.0),
        lambda z, y, n: losses.seesaw(z, y, n, 0.8, 2.0),
        lambda z, y, n, fixed=None: reference.seesaw(z, y, n, 0.8, 2.0, fixed, floor=0.01),
        frozen=True,
    ),
    "seesaw_unbounded": Case(
        lambda: losses.seesaw_transform(0.8, 2.0, floor=0.0),
        lambda z, y, n: losses.seesaw(z, y, n, 0.8, 2.0, floor=0.0),
        lambda z, y, n, fixed=None: reference.seesaw(z, y, n, 0.8, 2.0, fixed),
        frozen=True,
    ),
    "weighted": Case(
        lambda: losses.inverse_frequency_transform(weighted_mean=False),
        lambda z, y, n: losses.weighted_cross_entropy(z, y, losses.inverse_frequency_weights(n)),
        weights_of(reference.inverse_weights),
    ),
    "weighted_mean": Case(
        losses.inverse_frequency_transform,
        lambda z, y, n: _weighted_mean(z, y, losses.inverse_frequency_weights(n)),
        weights_of(reference.inverse_weights, reference.weighted_mean),
        batch=True,
    ),
    "class_balanced": Case(
        lambda: losses.class_balanced_transform(0.999),
        lambda z, y, n: losses.weighted_cross_entropy(z, y, class_balanced(n)),
        weights_of(lambda n: reference.effective_weights(n, 0.999)),
    ),
    "drw_before": Case(
        lambda: losses.drw_transform(5, 0.999),
        lambda z, y, n: deferred(z, y, n, 5),
        reference.cross_entropy,
        batch=True,
    ),
    "drw_after": Case(
        lambda: losses.drw_transform(0, 0.999),
        lambda z, y, n: deferred(z, y, n, 0),
        weights_of(lambda n: reference.effective_weights(n, 0.999), reference.weighted_mean),
        batch=True,
    ),
    "focal": Case(
        lambda: losses.focal_transform(2.0),
        lambda z, y, n: losses.focal(z, y, 2.0),
        lambda z, y, n: reference.focal(z, y, n, 2.0),
    ),
    "focal_half": Case(
        lambda: losses.focal_transform(0.5),
        lambda z, y, n: losses.focal(z, y, 0.5),
        lambda z, y, n: reference.focal(z, y, n, 0.5),
    ),
    "sigmoid_focal": Case(
        lambda: losses.sigmoid_focal_transform(2.0),
        lambda z, y, n: losses.sigmoid_focal(z, y, 2.0),
        lambda z, y, n: reference.sigmoid_focal(z, y, n, 2.0),
    ),
    "class_balanced_sigmoid_focal": Case(
        lambda: losses.chain(
            losses.class_balanced_transform(0.999), losses.sigmoid_focal_transform(0.5)
        ),
        lambda z, y, n: class_balanced(n)[y] * losses.sigmoid_focal(z, y, 0.5),
        lambda z, y, n: _class_balanced_sigmoid_focal(z, y, n),
    ),
    "label_smoothing": Case(
        lambda: losses.label_smoothing_transform(0.1),
        lambda z, y, n: losses.label_smoothing(z, y, 0.1),
        lambda z, y, n: reference.label_smoothing(z, y, n, 0.1),
    ),
    "label_aware_smoothing": Case(
        lambda: losses.label_aware_smoothing_transform(0.4, 0.1),
        lambda z, y, n: losses.label_aware_smoothing(z, y, n, 0.4, 0.1),
        lambda z, y, n: reference.label_aware_smoothing(z, y, n, 0.4, 0.1),
    ),
    "label_aware_smoothing_published": Case(
        lambda: losses.label_aware_smoothing_transform(0.4, 0.1, published=True),
        lambda z, y, n: losses.label_aware_smoothing(z, y, n, 0.4, 0.1, published=True),
        lambda z, y, n: reference.label_aware_smoothing(z, y, n, 0.4, 0.1, published=True),
    ),
    "ldam_drw": Case(
        lambda: losses.chain(
            losses.ldam_transform(0.5, 30.0, scaled=True), losses.drw_transform(0, 0.999)
        ),
        lambda z, y, n: averaged(
            class_balanced(n),
            class_balanced(n)[y] * losses.ldam(z, y, n, 0.5, 30.0, scaled=True),
            y,
        ),
        lambda z, y, n: _ldam_drw(z, y, n),
        batch=True,
    ),
    "class_balanced_focal": Case(
        lambda: losses.chain(losses.class_balanced_transform(0.999), losses.focal_transform(1.0)),
        lambda z, y, n: class_balanced(n)[y] * losses.focal(z, y, 1.0),
        lambda z, y, n: _class_balanced_focal(z, y, n),
    ),
    "bet": Case(
        losses.identity,
        lambda z, y, n: losses.bet_weights(flags(len(y)), 0.3) * losses.cross_entropy(z, y),
        lambda z, y, n: _embedded(z, y, n, reference.cross_entropy),
        bet=0.3,
        batch=True,
    ),
    "bet_of_balanced_softmax": Case(
        losses.balanced_softmax_transform,
        lambda z, y, n: losses.bet_weights(flags(len(y)), 0.6) * losses.balanced_softmax(z, y, n),
        lambda z, y, n: _embedded(z, y, n, reference.balanced_softmax, 0.6),
        bet=0.6,
        batch=True,
    ),
}


def _weighted_mean(z, y, weights):
    return averaged(weights, losses.weighted_cross_entropy(z, y, weights), y)


def _each(loss, z, y, n):
    return [loss(z[i : i + 1], y[i : i + 1], n) for i in range(len(y))]


def _ldam_drw(z, y, n):
    weights = reference.effective_weights(n, 0.999)
    each = _each(lambda z, y, n: reference.ldam(z / 30.0, y, n, 0.5, 30.0), z, y, n)
    total = sum(weights[c] * loss for c, loss in zip(y, each, strict=True))
    return total / sum(weights[c] for c in y)  # as the code of Cao et al.


def _class_balanced_focal(z, y, n):
    weights = reference.effective_weights(n, 0.999)
    each = _each(lambda z, y, n: reference.focal(z, y, n, 1.0), z, y, n)
    return sum(weights[c] * loss for c, loss in zip(y, each, strict=True)) / len(y)


def _class_balanced_sigmoid_focal(z, y, n):
    weights = reference.effective_weights(n, 0.999)
    each = _each(lambda z, y, n: reference.sigmoid_focal(z, y, n, 0.5), z, y, n)
    return sum(weights[c] * loss for c, loss in zip(y, each, strict=True)) / len(y)


def _embedded(z, y, n, loss, weight=0.3):
    """The last third of the batch is embedded."""
    split = len(y) - len(y) // 3
    regular = loss(z[:split], y[:split], n)
    return (1 - weight) * regular + weight * loss(z[split:], y[split:], n)
