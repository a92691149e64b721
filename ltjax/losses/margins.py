"""Losses with a margin on the logit of an example's own class."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.errors import Option, number
from ltjax.losses.base import (
    Counts,
    by_class,
    cross_entropy,
    fewest_images,
    one_class,
    safe_counts,
    widened,
)
from ltjax.losses.combine import MARGIN, ONE_CLASS, LossTransform, of_logits
from ltjax.losses.constants import of_counts

MAX_MARGIN = Option(0.5, number(0), "ldam: margin of the rarest class, in units of the cosine")
SCALE = Option(30.0, number(0, open_low=True), "ldam: factor by which the cosines are scaled")


def ldam(
    logits: ArrayLike,
    labels: ArrayLike,
    class_counts: Counts,
    max_margin: float = MAX_MARGIN.default,
    scale: float = SCALE.default,
    *,
    scaled: bool = False,
) -> jax.Array:
    """LDAM: cross entropy with a label-dependent margin on the cosines of a normalized classifier.

        CE(s (z - D_y 1[c = y]), y),    D_c = max_margin (n_min / n_c)^(1/4)

    Args:
      logits: cosines `z`, `[B, C]`.
      labels: class numbers `y`, int `[B]`.
      class_counts: training images of each class, `n`, `[C]`.
      max_margin: margin of the rarest class, >= 0, in units of the cosine.
      scale: `s` > 0.
      scaled: whether the logits are already `s z`, as a cosine head of that scale gives them.

    Returns:
      `[B]`.

    Raises:
      InputError: `max_margin` or `scale` out of range, or targets that are not one class per
        example.

    Source: Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss
    (NeurIPS 2019), https://arxiv.org/abs/1906.07413

    >>> cosines, y = jnp.array([[0.0, 0.5]]), jnp.array([1])
    >>> [round(float(each), 3) for each in ldam(cosines, y, [16, 1])]
    [0.693]
    """
    _check(max_margin, scale)
    z = widened(logits)
    margins = _margins(class_counts, max_margin, scale)
    return cross_entropy(_with_margin(z, labels, margins, scale, scaled), labels)


def ldam_transform(
    max_margin: float = MAX_MARGIN.default, scale: float = SCALE.default, *, scaled: bool = False
) -> LossTransform:
    """`ldam` as a transform of the logits.

    Args:
      max_margin: margin of the rarest class, >= 0, in units of the cosine.
      scale: `s` > 0.
      scaled: whether the logits are already `s z`, as a cosine head of that scale gives them.

    Returns:
      The transform; its state is `s D`, float32 `[C]`.

    Raises:
      InputError: `max_margin` or `scale` out of range.

    Source: see `ldam`.

    >>> [round(float(v), 2) for v in ldam_transform(0.5, scale=1.0).init([16, 1])]
    [0.25, 0.5]
    """
    _check(max_margin, scale)
    return of_logits(
        of_counts(lambda counts: _margins(counts, max_margin, scale)),
        lambda logits, targets, margins: _with_margin(logits, targets, margins, scale, scaled),
        (MARGIN, ONE_CLASS),
    )


def _check(max_margin: float, scale: float) -> None:
    MAX_MARGIN.check("max_margin", max_margin)
    SCALE.check("scale", scale)


def _margins(class_counts: Counts, max_margin: float, scale: float) -> jax.Array:
    """`s D`, float32 `[C]`."""
    # A class without images has the margin of the rarest that has some.
    counts = jnp.maximum(safe_counts(class_counts), fewest_images(class_counts))
    return scale * max_margin * (jnp.min(counts) / counts) ** 0.25


def _with_margin(
    logits: jax.Array, labels: ArrayLike, margins: jax.Array, scale: float, scaled: bool
) -> jax.Array:
    y = one_class(logits, labels, "LDAM")
    own = jax.nn.one_hot(y, logits.shape[-1], dtype=logits.dtype)
    z = logits if scaled else logits * jnp.asarray(scale, logits.dtype)
    return z - own * by_class(margins, logits)
