"""Mixing of images and labels before the network: mixup, remix and CutMix."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ltjax.errors import Option, number, require
from ltjax.losses.base import safe_counts

MIXING_ALPHA = Option(1.0, number(1e-3), "parameter of the Beta distribution of the shares")
REMIX_KAPPA = Option(
    3.0, number(1), "remix: ratio of class counts from which on a class is much rarer"
)
REMIX_TAU = Option(
    0.5, number(0, 1), "remix: share of the frequent class below which the rarer label wins"
)


class BatchMixing(NamedTuple):
    """How to mix every image of a batch, and its label, with a partner in the same batch.

        x = lam x_i + (1 - lam) x_j,    t = m e_(y_i) + (1 - m) e_(y_j),    lam ~ Beta(a, a)

    Attributes:
      alpha: `a` > 0.
      init: function from class counts `[C]` to the state: the counts, at least 1.
      label_share: `(lam, y_i, y_j, state) -> m`, all of shape `[B]` but the state.
      boxes: whether the partner's part is a rectangle of the image instead of a share of every
        pixel; see `draw_boxes`.
    """

    alpha: float
    init: Callable[[jax.Array], jax.Array]
    label_share: Callable[..., jax.Array]
    boxes: bool = False


def mixup(alpha: float = MIXING_ALPHA.default) -> BatchMixing:
    """Mixup: the labels are mixed like the images, `m = lam`.

    Args:
      alpha: parameter of the Beta distribution, > 0.

    Returns:
      The mixing.

    Raises:
      InputError: `alpha` not above 0.

    Source: Zhang et al., mixup: Beyond Empirical Risk Minimization (ICLR 2018),
    https://arxiv.org/abs/1710.09412
    """
    MIXING_ALPHA.check("alpha", alpha)
    return BatchMixing(alpha, safe_counts, lambda lam, y, partner_y, state: lam)


def remix(
    alpha: float = MIXING_ALPHA.default,
    kappa: float = REMIX_KAPPA.default,
    tau: float = REMIX_TAU.default,
) -> BatchMixing:
    """Remix: if one of the two classes is much rarer, the image gets the label of the rarer one.

        m = 0    if n_i / n_j >= kappa  and lam < tau
        m = 1    if n_i / n_j <= 1 / kappa  and 1 - lam < tau
        m = lam  otherwise

    Args:
      alpha: parameter of the Beta distribution, > 0.
      kappa: ratio of the class counts from which on a class is much rarer, >= 1.
      tau: the share of the frequent class in the image must be below this, in [0, 1].

    Returns:
      The mixing.

    Raises:
      InputError: a number out of range.

    Source: Chou et al., Remix: Rebalanced Mixup (ECCV 2020 workshops),
    https://arxiv.org/abs/2007.03943
    """
    MIXING_ALPHA.check("alpha", alpha)
    REMIX_KAPPA.check("kappa", kappa)
    REMIX_TAU.check("tau", tau)

    def label_share(
        lam: jax.Array, y: jax.Array, partner_y: jax.Array, state: jax.Array
    ) -> jax.Array:
        ratio = state[y] / state[partner_y]
        one, zero = jnp.ones_like(lam), jnp.zeros_like(lam)
        share = jnp.where((ratio >= kappa) & (lam < tau), zero, lam)
        return jnp.where((ratio * kappa <= 1) & (1 - lam < tau), one, share)

    return BatchMixing(alpha, safe_counts, label_share)


def cutmix(alpha: float = MIXING_ALPHA.default) -> BatchMixing:
    """CutMix: a rectangle of the image is the partner's, and the label is mixed by its area.

    Args:
      alpha: parameter of the Beta distribution, > 0.

    Returns:
      The mixing, for images.

    Raises:
      InputError: `alpha` not above 0.

    Source: Yun et al., CutMix (ICCV 2019), https://arxiv.org/abs/1905.04899
    """
    return mixup(alpha)._replace(boxes=True)


def draw_boxes(
    keys: jax.Array, lam: jax.Array, height: int, width: int
) -> tuple[jax.Array, jax.Array]:
    """Draws the rectangles of CutMix, and the shares that they leave of every image.

    The rectangle has the image's proportions and the share `1 - lam` of its area. Its center lies
    in the image, and what extends beyond the border is cut off.

    Args:
      keys: one PRNG key per image, `[B]`.
      lam: share of the own image that is asked for, `[B]`.
      height: of the images, in pixels.
      width: of the images, in pixels.

    Returns:
      1 where a pixel is the own image's and 0 where it is the partner's, float32 `[B, H, W, 1]`;
      and the shares of the own images that remain, `[B]`.

    Source: see `cutmix`.

    >>> own, share = draw_boxes(jax.random.split(jax.random.key(0), 1), jnp.array([0.75]), 8, 8)
    >>> own.shape, bool(share[0] >= 0.75)
    ((1, 8, 8, 1), True)
    """

    def one(key: jax.Array, share: jax.Array) -> jax.Array:
        sides = jnp.array([height, width])
        half = jnp.floor(sides.astype(share.dtype) * jnp.sqrt(1 - share)).astype(jnp.int32) // 2
        draws = jax.vmap(lambda k, n: jax.random.randint(k, (), 0, n))
        center = draws(jax.random.split(key), sides)
        y, x = jnp.arange(height), jnp.arange(width)
        rows = (y >= center[0] - half[0]) & (y < center[0] + half[0])
        columns = (x >= center[1] - half[1]) & (x < center[1] + half[1])
        return ~(rows[:, None] & columns[None])

    own = jax.vmap(one)(keys, lam).astype(jnp.float32)[..., None]
    return own, jnp.mean(own, axis=(1, 2, 3))


def partners(key: jax.Array, embedded: jax.Array) -> jax.Array:
    """A random permutation of the batch within its regular and within its embedded examples.

    BET weights the two kinds separately, so a mixture of both would have no weight.

    Args:
      key: PRNG key.
      embedded: bool `[B]`, True for embedded examples.

    Returns:
      int32 `[B]`, the position of every example's partner.

    Source: ours.

    >>> flags = jnp.array([False, True, False, True, True])
    >>> order = partners(jax.random.key(0), flags)
    >>> bool((flags[order] == flags).all()), sorted(order.tolist())
    (True, [0, 1, 2, 3, 4])
    """
    kinds = jnp.argsort(embedded, stable=True)
    shuffled = jnp.lexsort((jax.random.uniform(key, embedded.shape), embedded))
    return jnp.zeros(embedded.shape, jnp.int32).at[kinds].set(shuffled.astype(jnp.int32))


def draw_shares(keys: jax.Array, alpha: float) -> jax.Array:
    """Draws the share of its own image for every example, `lam ~ Beta(alpha, alpha)`.

    Args:
      keys: one PRNG key per example, `[B]`.
      alpha: parameter of the Beta distribution, > 0.

    Returns:
      float32 `[B]`.

    Source: see `mixup`.
    """
    return jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(keys)


def mix(
    mixing: BatchMixing,
    state: jax.Array,
    images: tuple[jax.Array, jax.Array],
    labels: tuple[jax.Array, jax.Array],
    lam: jax.Array,
    own: jax.Array | None = None,
    weights: tuple[jax.Array, jax.Array] | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Mixes images and labels with those of their partners.

    Args:
      mixing: mixup, remix or CutMix.
      state: `mixing.init(class_counts)`, `[C]`.
      images: `(own, partners')`, each float `[B, ...]`.
      labels: `(own, partners')`, each int `[B]`.
      lam: share of the own image, `[B]`.
      own: share of the own image in every pixel, `[B, H, W, 1]`; `lam` everywhere if it is None.
      weights: `(own, partners')`, what each label counts in the loss, each `[B]`; 1 if it is None.

    Returns:
      Mixed images `[B, ...]` and targets `[B, C]`, which are probabilities, times the weights.

    Source: see `mixup` and `remix`.

    >>> pair = jnp.zeros((1, 2)), jnp.ones((1, 2))
    >>> classes = jnp.array([0]), jnp.array([1])
    >>> x, t = mix(mixup(), jnp.ones(2), pair, classes, jnp.array([0.75]))
    >>> x.tolist(), t.tolist()
    ([[0.25, 0.25]], [[0.75, 0.25]])
    """
    share = lam.reshape((-1,) + (1,) * (images[0].ndim - 1)) if own is None else own
    share = share.astype(images[0].dtype)
    mixed = share * images[0] + (1 - share) * images[1]
    m = mixing.label_share(lam, *labels, state)[:, None]
    first, second = (jax.nn.one_hot(y, state.shape[0], dtype=m.dtype) for y in labels)
    if weights is not None:
        first, second = (w[:, None] * t for w, t in zip(weights, (first, second), strict=True))
    return mixed, m * first + (1 - m) * second


MIXINGS: dict[str, Callable[[float, float, float], BatchMixing | None]] = {
    "none": lambda alpha, kappa, tau: None,
    "mixup": lambda alpha, kappa, tau: mixup(alpha),
    "remix": remix,
    "cutmix": lambda alpha, kappa, tau: cutmix(alpha),
}


def make_mixing(
    name: str,
    *,
    alpha: float = MIXING_ALPHA.default,
    remix_kappa: float = REMIX_KAPPA.default,
    remix_tau: float = REMIX_TAU.default,
) -> BatchMixing | None:
    """Builds the mixing that a configuration names.

    Args:
      name: one of `MIXINGS`.
      alpha: parameter of the Beta distribution, > 0.
      remix_kappa: see `remix`.
      remix_tau: see `remix`.

    Returns:
      The mixing; None for the name "none".

    Raises:
      InputError: an unknown name or a value out of range, named `train.KEY`.

    Source: ours.
    """
    require(name in MIXINGS, "train.mixing", name, f"one of {', '.join(MIXINGS)}")
    MIXING_ALPHA.check("train.mixing_alpha", alpha)
    REMIX_KAPPA.check("train.remix_kappa", remix_kappa)
    REMIX_TAU.check("train.remix_tau", remix_tau)
    return MIXINGS[name](alpha, remix_kappa, remix_tau)
