"""Cross entropy, and the checks and constants that all losses share."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from ltjax.errors import InputError, require

# Images per class, or shares of the classes: a list, a NumPy array, or a JAX array, which may be
# traced.
Counts = ArrayLike | Sequence[int] | Sequence[float]


def cross_entropy(logits: ArrayLike, targets: ArrayLike) -> jax.Array:
    """Softmax cross entropy of every example.

        -log softmax(z)_y,    or    -sum_c t_c log softmax(z)_c

    Args:
      logits: `z`, `[B, C]`; any leading axes will do. Half precision is computed in float32.
      targets: class numbers `y`, int `[B]`, or weights of the classes `t`, `[B, C]`, such as
        probabilities.

    Returns:
      `[B]`; taking the mean over the batch is left to the caller.

    Raises:
      InputError: targets of another shape, or class numbers that are not integers.

    Source: `optax.losses`, https://optax.readthedocs.io/en/latest/api/losses.html

    >>> z = jnp.log(jnp.array([[0.5, 0.25, 0.25]]))
    >>> [round(float(loss), 3) for loss in cross_entropy(z, jnp.array([0]))]
    [0.693]
    >>> [round(float(loss), 3) for loss in cross_entropy(z, jnp.array([[0.0, 0.5, 0.5]]))]
    [1.386]
    """
    z = widened(logits)
    t = checked_targets(z, targets)
    of_integers = optax.losses.softmax_cross_entropy_with_integer_labels
    each: jax.Array = (
        of_integers(z, t) if t.ndim < z.ndim else optax.losses.softmax_cross_entropy(z, t)
    )
    return each


def widened(logits: ArrayLike) -> jax.Array:
    """Casts logits to float32 unless they are wider, so that no loss is computed in half precision.

    Args:
      logits: `[..., C]`, any float dtype.

    Returns:
      `[..., C]`, float32 or float64.

    Source: ours.
    """
    z = jnp.asarray(logits)
    return z.astype(jnp.float32) if jnp.finfo(z.dtype).bits < 32 else z


def checked_targets(logits: jax.Array, targets: ArrayLike) -> jax.Array:
    """Checks that targets fit the logits.

    Args:
      logits: `[B, C]`; any leading axes will do.
      targets: class numbers, int `[B]`, or weights of the classes `[B, C]`, such as probabilities.

    Returns:
      Class numbers, int `[B]`, unchanged, or weights `[B, C]` in the dtype of the logits.

    Raises:
      InputError: targets of another shape, or class numbers that are not integers.

    Source: ours.
    """
    t = jnp.asarray(targets)
    if t.shape == logits.shape:
        return t.astype(logits.dtype)
    if t.shape != logits.shape[:-1] or not jnp.issubdtype(t.dtype, jnp.integer):
        raise InputError(
            f"targets of shape {t.shape} and type {t.dtype} do not fit logits of shape "
            f"{logits.shape}; use class numbers, int {logits.shape[:-1]}, or probabilities "
            f"{logits.shape}"
        )
    return t


def soft_targets(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Targets as probabilities: class numbers become one-hot vectors.

    Args:
      logits: `[B, C]`; only their shape and dtype are used.
      targets: class numbers, int `[B]`, or probabilities `[B, C]`.

    Returns:
      `[B, C]`, in the dtype of the logits.

    Source: ours.
    """
    if targets.ndim == logits.ndim:
        return targets
    return jax.nn.one_hot(targets, logits.shape[-1], dtype=logits.dtype)


def one_class(logits: jax.Array, targets: ArrayLike, name: str) -> jax.Array:
    """Class numbers, for losses that need exactly one class per example.

    Args:
      logits: `[B, C]`.
      targets: class numbers, int `[B]`; probabilities are refused.
      name: name of the loss, for the message.

    Returns:
      Class numbers, int `[B]`.

    Raises:
      InputError: the targets are mixed or smoothed, or do not fit the logits.

    Source: ours.
    """
    t = checked_targets(logits, targets)
    if t.ndim == logits.ndim:
        raise InputError(
            f"{name} needs one class an example, but the targets are probabilities "
            f"{t.shape}; leave out mixing, and smooth after it"
        )
    return t


def safe_counts(class_counts: Counts) -> jax.Array:
    """Class counts above 0, so that their logarithms and quotients are finite.

    Args:
      class_counts: training images of each class, or shares of the classes, `[C]`.

    Returns:
      float32 `[C]`; a class without images counts as one image, and a class whose share is 0 as the
      rarest of the others.

    Source: ours.

    >>> safe_counts([3, 0]).tolist(), safe_counts([0.75, 0.25, 0.0]).tolist()
    ([3.0, 1.0], [0.75, 0.25, 0.25])
    """
    counts = jnp.asarray(class_counts, jnp.float32)
    present = counts > 0
    return jnp.where(present, counts, jnp.min(jnp.where(present, counts, 1.0)))


def fewest_images(class_counts: Counts) -> jax.Array:
    """The count of the rarest class that has images.

    Args:
      class_counts: training images of each class, or shares of the classes, `[C]`.

    Returns:
      float32 `[]`.

    Source: ours.

    >>> float(fewest_images([9, 3, 0]))
    3.0
    """
    counts = jnp.asarray(class_counts, jnp.float32)
    return jnp.min(jnp.where(counts > 0, counts, jnp.inf))


def of_classes(values: jax.Array, logits: jax.Array) -> jax.Array:
    """Checks that there is one value per class, and casts the values to the dtype of the logits.

    Args:
      values: one value per class, `[C]`.
      logits: `[B, C]`; only their shape and dtype are used.

    Returns:
      `[C]`, in the dtype of the logits.

    Raises:
      InputError: the number of values is not the number of classes.

    Source: ours.
    """
    classes = logits.shape[-1:]
    require(values.shape == classes, "class_counts.shape", values.shape, f"{classes}")
    return values.astype(logits.dtype)


def by_class(values: jax.Array, logits: jax.Array) -> jax.Array:
    """Values of the classes, reshaped so that they broadcast against the logits.

    Args:
      values: one value per class, `[C]`.
      logits: `[B, C]`; any leading axes will do.

    Returns:
      `[1, C]`, with one axis of length 1 for every leading axis, in the dtype of the logits.

    Raises:
      InputError: the number of values is not the number of classes.

    Source: ours.
    """
    return of_classes(values, logits)[(None,) * (logits.ndim - 1)]


def log_counts(class_counts: Counts) -> jax.Array:
    """Logarithms of the class counts, `log n_c`.

    Args:
      class_counts: training images of each class, or shares of the classes, `[C]`.

    Returns:
      float32 `[C]`; for a class without images see `safe_counts`.

    Source: ours.
    """
    return jnp.log(safe_counts(class_counts))


def log_prior(class_counts: Counts) -> jax.Array:
    """Logarithms of the class prior, `log pi_c = log(n_c / sum n)`.

    Args:
      class_counts: training images of each class, or shares of the classes, such as a sampler's
        `class_prior()`, `[C]`.

    Returns:
      float32 `[C]`; for a class without images see `safe_counts`.

    Source: ours.

    >>> [round(float(v), 2) for v in log_prior([9, 1])]
    [-0.11, -2.3]
    """
    counts = safe_counts(class_counts)
    return jnp.log(counts / jnp.sum(counts))


def log_prior_in_numpy(class_counts: Counts) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """Like `log_prior`, but computed by NumPy in float64.

    Args:
      class_counts: training images of each class, or shares of the classes, `[C]`.

    Returns:
      float64 `[C]`; for a class without images see `safe_counts`.

    Source: ours.
    """
    counts = np.asarray(class_counts, np.float64)
    present = counts > 0
    counts = np.where(present, counts, np.min(np.where(present, counts, 1.0)))
    return np.asarray(np.log(counts / counts.sum()), np.float64)
