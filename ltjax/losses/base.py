"""Cross entropy, and what every loss makes of its arguments."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from ltjax.errors import InputError, require

# Images per class: NumPy, a list, or a JAX array, traced or not.
Counts = ArrayLike | Sequence[int] | Sequence[float]


def cross_entropy(logits: ArrayLike, targets: ArrayLike) -> jax.Array:
    """Softmax cross entropy of every example.

        -log softmax(z)_y,    or    -sum_c t_c log softmax(z)_c

    Args:
      logits: `[B, C]`; any leading axes will do. Half precision is computed in float32.
      targets: class numbers, int `[B]`, or weights of the classes `[B, C]`, such as probabilities.

    Returns:
      `[B]`; the mean is the caller's.

    Raises:
      InputError: targets of another shape, or class numbers that are not integers.

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
    """Logits in float32 or wider, so that no loss is computed in half precision."""
    z = jnp.asarray(logits)
    return z.astype(jnp.float32) if jnp.finfo(z.dtype).bits < 32 else z


def checked_targets(logits: jax.Array, targets: ArrayLike) -> jax.Array:
    """Class numbers `[B]`, or weights of the classes `[B, C]` in the logits' dtype.

    Raises:
      InputError: targets of another shape, or class numbers that are not integers.
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
    """Targets as probabilities `[B, C]`, in the logits' dtype."""
    if targets.ndim == logits.ndim:
        return targets
    return jax.nn.one_hot(targets, logits.shape[-1], dtype=logits.dtype)


def one_class(logits: jax.Array, targets: ArrayLike, name: str) -> jax.Array:
    """Class numbers `[B]`, for the losses that need one class an example.

    Raises:
      InputError: the targets are mixed or smoothed.
    """
    t = checked_targets(logits, targets)
    if t.ndim == logits.ndim:
        raise InputError(
            f"{name} needs one class an example, but the targets are probabilities "
            f"{t.shape}; leave out mixing, and smooth after it"
        )
    return t


def safe_counts(class_counts: Counts) -> jax.Array:
    """Images per class, float32 `[C]`; a class without images counts as one image."""
    return jnp.maximum(jnp.asarray(class_counts, jnp.float32), 1.0)


def of_classes(values: jax.Array, logits: jax.Array) -> jax.Array:
    """A value of every class, `[C]`, in the logits' dtype.

    Raises:
      InputError: not one value a class.
    """
    classes = logits.shape[-1:]
    require(values.shape == classes, "class_counts.shape", values.shape, f"{classes}")
    return values.astype(logits.dtype)


def by_class(values: jax.Array, logits: jax.Array) -> jax.Array:
    """The same over the leading axes of the logits, `[1, C]`."""
    return of_classes(values, logits)[(None,) * (logits.ndim - 1)]


def log_counts(class_counts: Counts) -> jax.Array:
    """`log n_c`, float32 `[C]`; a class without images counts as one image."""
    return jnp.log(safe_counts(class_counts))


def log_prior(class_counts: Counts) -> jax.Array:
    """`log pi_c = log(n_c / sum n)`, float32 `[C]`; a class without images counts as one image.

    >>> [round(float(v), 2) for v in log_prior([9, 1])]
    [-0.11, -2.3]
    """
    counts = safe_counts(class_counts)
    return jnp.log(counts / jnp.sum(counts))


def log_prior_in_numpy(class_counts: Counts) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """The same in float64, by NumPy."""
    counts = np.maximum(np.asarray(class_counts, np.float64), 1.0)
    return np.asarray(np.log(counts / counts.sum()), np.float64)
