"""The errors of the package, the checks that raise them, and the declaration of options.

An option of the package (its default, allowed values and help text) is declared once, as an
`Option` beside the function that takes it. The defaults of functions, the fields of the frozen
configuration dataclasses, `config.KEY`, docs/config.md and the messages are all made from it.
"""

import contextlib
import dataclasses
import signal
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np


class InputError(ValueError):
    """A value from the user cannot be used.

    The message is one line that names the value, what is allowed and, where that is not
    obvious, what to do. `ltjax.main` prints it and exits with code 2; in library use it is
    an ordinary `ValueError`.
    """


class MissingExtraError(ImportError, InputError):
    """A package of the extra `train` is not installed; the message names the command."""


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
    """The run was asked to stop and has written a checkpoint.

    Attributes:
      exit_code: 0 after SIGTERM, 130 after SIGINT.
    """

    def __init__(self, number: int, step: int):
        super().__init__(f"stopped at step {step} by {signal.Signals(number).name}")
        self.exit_code = 130 if number == signal.SIGINT else 0


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
        raise InputError(f"{name} = {value!r} is not allowed; use {allowed}")


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
    integral = np.issubdtype(labels.dtype, np.integer)
    require(integral, "labels.dtype", str(labels.dtype), "an integer dtype")
    require(labels.min() >= 0, "labels.min()", int(labels.min()), "labels >= 0")
    return labels.astype(np.int64)


class Allowed(NamedTuple):
    """The values that an option may have: a check, and the same in words.

    Attributes:
      check: function from a value to whether it is allowed.
      words: what is allowed, as in "use an integer >= 1".
    """

    check: Callable[[Any], bool]
    words: str


def integer(low: int) -> Allowed:
    """Integers `>= low`.

    Args:
      low: smallest integer that is allowed.

    Returns:
      The allowed values.

    >>> [integer(1).check(value) for value in (1, 0, 1.5, True)]
    [True, False, False, False]
    """
    return Allowed(lambda v: is_integer(v) and v >= low, f"an integer >= {low}")


def number(
    low: float, high: float = float("inf"), *, open_low: bool = False, open_high: bool = False
) -> Allowed:
    """Numbers in an interval.

    Args:
      low: lower end.
      high: upper end.
      open_low: whether `low` itself is excluded.
      open_high: whether `high` itself is excluded.

    Returns:
      The allowed values.

    >>> number(0, 1, open_low=True).words
    'a number > 0 and <= 1'
    """
    words = f"a number {'>' if open_low else '>='} {low:g}"
    if high != float("inf"):
        words += f" and {'<' if open_high else '<='} {high:g}"

    def check(v: Any) -> bool:
        above = not isinstance(v, bool) and (v > low if open_low else v >= low)
        return bool(above and (v < high if open_high else v <= high))

    return Allowed(check, words)


def one_of(*names: str) -> Allowed:
    """One of several names.

    Args:
      *names: the names.

    Returns:
      The allowed values.

    >>> one_of("zca", "none").words
    'one of zca, none'
    """
    return Allowed(lambda v: v in names, "one of " + ", ".join(names))


def number_or(numbers: Allowed, *names: str) -> Allowed:
    """A number, or one of several names.

    Args:
      numbers: the numbers that are allowed.
      *names: the names.

    Returns:
      The allowed values.

    >>> number_or(number(0), "auto").words
    'a number >= 0, or one of auto'
    """

    def either(value: Any) -> bool:
        if isinstance(value, str):
            return value in names
        real = isinstance(value, int | float) and not isinstance(value, bool)
        return real and numbers.check(value)

    return Allowed(either, f"{numbers.words}, or one of {', '.join(names)}")


FLAG = Allowed(lambda v: isinstance(v, bool), "True or False")
TEXT = Allowed(lambda v: isinstance(v, str), "text")


class Option(NamedTuple):
    """An option of the package, declared once: beside the function that takes it.

    Attributes:
      default: its value where none is given.
      allowed: the values it may have; None is allowed too where it is the default.
      help: its meaning, in one line.

    >>> MOMENTUM = Option(0.9, number(0, 1), "weight of the old value")
    >>> def update(old: float, new: float, momentum: float = MOMENTUM.default) -> float:
    ...     MOMENTUM.check("momentum", momentum)
    ...     return momentum * old + (1 - momentum) * new
    >>> update(1.0, 0.0)
    0.9
    >>> @dataclasses.dataclass(frozen=True)
    ... class AverageConfig:
    ...     momentum: float = MOMENTUM.field()
    >>> AverageConfig().momentum
    0.9
    """

    default: Any
    allowed: Allowed
    help: str

    def check(self, name: str, value: Any) -> None:
        """Checks a value.

        Args:
          name: name of the option, for the message.
          value: its value.

        Raises:
          InputError: the value is not allowed.
        """
        if value is None and self.default is None:
            return
        try:
            ok = bool(self.allowed.check(value))  # NaN fails every comparison
        except TypeError:  # of a type that does not compare
            ok = False
        require(ok, name, value, self.allowed.words)

    def field(self) -> Any:
        """The option as a field of a frozen dataclass; the annotation gives its type.

        Returns:
          The field, with the option in its metadata.
        """
        return dataclasses.field(default=self.default, metadata={"option": self})


def option(default: Any, allowed: Allowed, help: str) -> Any:
    """A field of a frozen dataclass, for an option that no function declares.

    Args:
      default: its value if none is given.
      allowed: the values that it may have.
      help: its meaning, in one line.

    Returns:
      The field, with the option in its metadata.
    """
    return Option(default, allowed, help).field()


def options_of(config: Any) -> dict[str, Option]:
    """The options of a configuration dataclass.

    Args:
      config: the dataclass, or an instance of it.

    Returns:
      The options by name, in the order of the fields.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Config:
    ...     epochs: int = option(100, integer(1), "passes over the data")
    >>> options_of(Config)["epochs"].allowed.words
    'an integer >= 1'
    """
    fields = dataclasses.fields(config)
    return {f.name: f.metadata["option"] for f in fields if "option" in f.metadata}
