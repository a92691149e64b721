"""What ends a run early: input that cannot be used, or a wish to stop."""

import signal


class InputError(ValueError):
    """A value from the user cannot be used.

    The message is one line that names the value, what is allowed and, where it is not
    plain, what to do. `ltjax.main` prints it and exits with code 2; in library use it is
    an ordinary `ValueError`.
    """


class Interrupted(Exception):
    """The run was asked to stop and has written a checkpoint.

    Attributes:
      exit_code: 0 after SIGTERM, 130 after SIGINT.
    """

    def __init__(self, number: int, step: int):
        super().__init__(f"stopped at step {step} by {signal.Signals(number).name}")
        self.exit_code = 130 if number == signal.SIGINT else 0


def require(ok: bool, name: str, value: object, allowed: str) -> None:
    """Raises `InputError` naming `name`, `value` and what is `allowed` unless `ok`.

    >>> require(False, "train.batch_size", -3, "an integer >= 1")
    Traceback (most recent call last):
    ...
    ltjax.errors.InputError: train.batch_size = -3 is not allowed; use an integer >= 1
    """
    if not ok:
        raise InputError(f"{name} = {value!r} is not allowed; use {allowed}")
