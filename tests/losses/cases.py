"""One row per transform: how it is made, and its NumPy reference."""

from collections.abc import Callable
from typing import NamedTuple

from ltjax import losses
from tests.losses import reference


class Case(NamedTuple):
    """A transform and `(z, y, counts) -> loss`; `frozen` if the reference needs fixed logits."""

    make: Callable[[], losses.LossTransform]
    reference: Callable[..., float]
    frozen: bool = False


def weights_of(make):
    return lambda z, y, n: reference.weighted(z, y, n, make(n))


CASES = {
    "cross_entropy": Case(losses.identity, reference.cross_entropy),
    "logit_adjustment": Case(
        lambda: losses.logit_adjustment(0.7),
        lambda z, y, n: reference.logit_adjustment(z, y, n, 0.7),
    ),
    "balanced_softmax": Case(losses.balanced_softmax, reference.balanced_softmax),
    "vs": Case(
        lambda: losses.vector_scaling(0.15, 1.25),
        lambda z, y, n: reference.vector_scaling(z, y, n, 0.15, 1.25),
    ),
    "ldam": Case(
        lambda: losses.ldam(0.5, 30.0), lambda z, y, n: reference.ldam(z, y, n, 0.5, 30.0)
    ),
    "lade": Case(lambda: losses.lade(0.1, 0.2), lambda z, y, n: reference.lade(z, y, n, 0.1, 0.2)),
    "equalization": Case(
        lambda: losses.equalization(0.8, 1.0),
        lambda z, y, n: reference.equalization(z, y, n, 0.8),
    ),
    "seesaw": Case(
        lambda: losses.seesaw(0.8, 2.0),
        lambda z, y, n, fixed=None: reference.seesaw(z, y, n, 0.8, 2.0, fixed),
        frozen=True,
    ),
    "weighted": Case(losses.weighted, weights_of(reference.inverse_weights)),
    "class_balanced": Case(
        lambda: losses.class_balanced(0.999),
        weights_of(lambda n: reference.effective_weights(n, 0.999)),
    ),
    "drw_before": Case(lambda: losses.drw(5, 0.999), reference.cross_entropy),
    "drw_after": Case(
        lambda: losses.drw(0, 0.999),
        weights_of(lambda n: reference.effective_weights(n, 0.999)),
    ),
    "focal": Case(lambda: losses.focal(2.0), lambda z, y, n: reference.focal(z, y, n, 2.0)),
    "focal_half": Case(lambda: losses.focal(0.5), lambda z, y, n: reference.focal(z, y, n, 0.5)),
    "label_smoothing": Case(
        lambda: losses.label_smoothing(0.1),
        lambda z, y, n: reference.label_smoothing(z, y, n, 0.1),
    ),
    "label_aware_smoothing": Case(
        lambda: losses.label_aware_smoothing(0.4, 0.1),
        lambda z, y, n: reference.label_aware_smoothing(z, y, n, 0.4, 0.1),
    ),
    "ldam_drw": Case(
        lambda: losses.chain(losses.ldam(0.5, 30.0, scaled=True), losses.drw(0, 0.999)),
        lambda z, y, n: _ldam_drw(z, y, n),
    ),
    "class_balanced_focal": Case(
        lambda: losses.chain(losses.class_balanced(0.999), losses.focal(1.0)),
        lambda z, y, n: _class_balanced_focal(z, y, n),
    ),
    "embedded": Case(lambda: losses.batch_embedded(0.3), lambda z, y, n: _embedded(z, y, n)),
}


def _each(loss, z, y, n):
    return [loss(z[i : i + 1], y[i : i + 1], n) for i in range(len(y))]


def _ldam_drw(z, y, n):
    weights = reference.effective_weights(n, 0.999)
    each = _each(lambda z, y, n: reference.ldam(z / 30.0, y, n, 0.5, 30.0), z, y, n)
    return sum(weights[c] * loss for c, loss in zip(y, each, strict=True)) / len(y)


def _class_balanced_focal(z, y, n):
    weights = reference.effective_weights(n, 0.999)
    each = _each(lambda z, y, n: reference.focal(z, y, n, 1.0), z, y, n)
    return sum(weights[c] * loss for c, loss in zip(y, each, strict=True)) / len(y)


def _embedded(z, y, n):
    """The last third of the batch is embedded."""
    split = len(y) - len(y) // 3
    regular = reference.cross_entropy(z[:split], y[:split], n)
    return 0.7 * regular + 0.3 * reference.cross_entropy(z[split:], y[split:], n)
