"""The errors of the package, and the checks that raise them."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np

from ltjax.errors.text import shown


class InputError(ValueError):
    """A value from the user cannot be used.

    The message is one line that names the value, what is allowed and, where that is not
    obvious, what to do. `ltjax.main` prints it and exits with code 2; in library use it is
    an ordinary `ValueError`.
    """

    __module__ = "ltjax.errors"  # the name that users import


class MissingExtraError(ImportError, InputError):
    """A package of the extra `train` is not installed; the message names the command."""

    __module__ = "ltjax.errors"


@contextlib.contextmanager
def needs_train_extra(what: str) -> Iterator[None]:
    """Context for imports that need the extra `train`; names the command if it is not installed.

    Args:
      what: name of what needs the extra, for the message.

    Returns:
      A context manager.

    Raises:
      MissingExtraError: a package other than ltjax itself is not installed.

    >>> with needs_train_extra("ltjax.run"):
    ...     raise ModuleNotFoundError(name="ml_collections")
    Traceback (most recent call last):
    ...
    ltjax.errors.MissingExtraError: ltjax.run needs ml_collections, which is not installed; \
run: pip install 'ltjax[train]'
    """
    try:
        yield
    except ModuleNotFoundError as e:
        if e.name is None or e.name.split(".")[0] == "ltjax":
            raise
        raise MissingExtraError(
            f"{what} needs {e.name}, which is not installed; run: pip install 'ltjax[train]'"
        ) from e


class Interrupted(Exception):
    """A signal asked to stop, and what was half written is gone.

    Args:
      number: of the signal.
      step: of the checkpoint that a training has written; None where it has written none.
      resumes: whether the same command goes on; otherwise it starts again.

    Attributes:
      exit_code: 130 after SIGINT; after SIGTERM and SIGHUP 0 of a training, which resumes, and
        128 plus the number of anything else.
    """

    __module__ = "ltjax.errors"

    def __init__(self, number: int, step: int | None = None, *, resumes: bool = True):
        at = "" if step is None else f" at step {step}"
        how = "resumes" if resumes else "starts again"
        super().__init__(f"stopped{at} by {signal.Signals(number).name}; the same command {how}")
        self.exit_code = 0 if resumes and number != signal.SIGINT else 128 + number


def require(ok: bool, name: str, value: object, allowed: str) -> None:
    """Raises `InputError` unless a condition holds.

    Args:
      ok: the condition.
      name: name of the value.
      value: the value.
      allowed: what is allowed, in words.

    Raises:
      InputError: `ok` is false.

    >>> require(False, "train.batch_size", -3, "an integer >= 1")
    Traceback (most recent call last):
    ...
    ltjax.errors.InputError: train.batch_size = -3 is not allowed; use an integer >= 1
    """
    if not ok:
        raise InputError(f"{name} = {shown(value)} is not allowed; use {allowed}")


def is_integer(value: object) -> bool:
    """Whether a value is an integer of Python or NumPy; booleans are not.

    Args:
      value: any value.

    Returns:
      True or False.
    """
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def require_integer(name: str, value: Any, low: int) -> int:
    """Checks that a value is an integer not below a limit.

    Args:
      name: name of the value, for the message.
      value: the value.
      low: smallest integer that is allowed.

    Returns:
      The value as a Python integer.

    Raises:
      InputError: another value.

    >>> require_integer("batch_size", 32, 1)
    32
    """
    require(is_integer(value) and value >= low, name, value, f"an integer >= {low}")
    return int(value)


# More classes than any data set has. Counting them takes memory for each, also for those without an
# image, so that one wild label would take all of it.
MOST_CLASSES = 2**24


def check_labels(labels: np.ndarray) -> np.ndarray:
    """Checks that labels are class numbers.

    Args:
      labels: int `[N]`, >= 0, at least one.

    Returns:
      int64 `[N]`.

    Raises:
      InputError: another shape, dtype or range, or no labels.
    """
    labels = np.asarray(labels)
    require(labels.ndim == 1, "labels.shape", labels.shape, "one dimension")
    require(len(labels) > 0, "len(labels)", 0, "at least one label")
    # By its letter, since NumPy counts a time span among the signed integers.
    require(labels.dtype.kind in "iu", "labels.dtype", str(labels.dtype), "an integer dtype")
    require(labels.min() >= 0, "labels.min()", int(labels.min()), "labels >= 0")
    require(labels.max() < MOST_CLASSES, "labels.max()", int(labels.max()), "labels below 2^24")
    return labels.astype(np.int64)
