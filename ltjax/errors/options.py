"""The declaration of options: default, allowed values and help text of each, in one place.

An option of the package is declared once, as an `Option` beside the function that takes it. The
defaults of functions, the fields of the frozen configuration dataclasses, `config.KEY`,
docs/config.md and the messages are all made from it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ltjax.errors.base import is_integer, require


class Allowed(NamedTuple):
    """The values that an option may have: a check, and the same in words.

    Attributes:
      check: function from a value to whether it is allowed.
      words: what is allowed, as in "use an integer >= 1".
    """

    check: Callable[[Any], bool]
    words: str


# Where an option names no largest value: what an int32 and an index of an array can be, and far
# more than any factor, rate or exponent that trains.
LARGEST_INTEGER, LARGEST_NUMBER = 2**31 - 1, 1e6


def integer(low: int, high: int = LARGEST_INTEGER) -> Allowed:
    """Integers in an interval.

    Args:
      low: smallest integer that is allowed.
      high: largest integer that is allowed.

    Returns:
      The allowed values.

    >>> [integer(1, 9).check(value) for value in (1, 0, 10, 1.5, True)]
    [True, False, False, False, False]
    """
    return Allowed(
        lambda v: is_integer(v) and low <= v <= high, f"an integer >= {low} and <= {high}"
    )


def number(
    low: float, high: float = LARGEST_NUMBER, *, open_low: bool = False, open_high: bool = False
) -> Allowed:
    """Numbers in an interval; one above an open lower end is above it in float32 too.

    Args:
      low: lower end.
      high: upper end.
      open_low: whether `low` itself is excluded.
      open_high: whether `high` itself is excluded.

    Returns:
      The allowed values.

    >>> number(0, 1, open_low=True).words
    'a number > 0 and <= 1'
    >>> number(0, open_low=True).check(1e-60)
    False
    """
    below = f"{high:.0f}" if high >= 1 and float(high).is_integer() else f"{high:g}"
    words = f"a number {'>' if open_low else '>='} {low:g} and {'<' if open_high else '<='} {below}"

    def check(v: Any) -> bool:
        if isinstance(v, bool) or not (low <= v <= high):  # NaN fails every comparison
            return False
        if open_high and v >= high:
            return False
        return not open_low or float(np.float32(v)) > low  # 1e-60 is 0 where networks compute

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
    return Allowed(lambda v: isinstance(v, str) and v in names, "one of " + ", ".join(names))


def number_or(numbers: Allowed, *names: str) -> Allowed:
    """A number, or one of several names.

    Args:
      numbers: the numbers that are allowed.
      *names: the names.

    Returns:
      The allowed values.

    >>> number_or(number(0, 1), "auto").words
    'a number >= 0 and <= 1, or one of auto'
    """

    def either(value: Any) -> bool:
        if isinstance(value, str):
            return value in names
        real = isinstance(value, int | float) and not isinstance(value, bool)
        return real and numbers.check(value)

    return Allowed(either, f"{numbers.words}, or one of {', '.join(names)}")


FLAG = Allowed(lambda v: isinstance(v, bool), "True or False")
# The system's calls end a path at its first NUL.
TEXT = Allowed(lambda v: isinstance(v, str) and "\0" not in v, "text")


class Option(NamedTuple):
    """An option of the package, declared once: beside the function that takes it.

    Attributes:
      default: its value where none is given.
      allowed: the values it may have; None is allowed too where it is the default.
      help: its meaning, in one line.
      older: its value in a stored configuration that lacks it, which is older than the option;
        `...` is the default.

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
    older: Any = ...

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
            ok = bool(self.allowed.check(value))
        except (TypeError, ValueError, ArithmeticError):  # of a type that does not compare
            ok = False
        require(ok, name, value, self.allowed.words)

    def field(self) -> Any:
        """The option as a field of a frozen dataclass; the annotation gives its type.

        Returns:
          The field, with the option in its metadata.
        """
        return dataclasses.field(default=self.default, metadata={"option": self})


def option(default: Any, allowed: Allowed, help: str, older: Any = ...) -> Any:
    """A field of a frozen dataclass, for an option that no function declares.

    Args:
      default: its value if none is given.
      allowed: the values that it may have.
      help: its meaning, in one line.
      older: its value in a stored configuration that lacks it; `...` is the default.

    Returns:
      The field, with the option in its metadata.
    """
    return Option(default, allowed, help, older).field()


def options_of(config: Any) -> dict[str, Option]:
    """The options of a configuration dataclass.

    Args:
      config: the dataclass, or an instance of it.

    Returns:
      The options by name, in the order of the fields.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Config:
    ...     epochs: int = option(100, integer(1, 1000), "passes over the data")
    >>> options_of(Config)["epochs"].allowed.words
    'an integer >= 1 and <= 1000'
    """
    fields = dataclasses.fields(config)
    return {f.name: f.metadata["option"] for f in fields if "option" in f.metadata}
