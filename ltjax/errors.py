"""The one exception for input that cannot be used."""


class InputError(ValueError):
    """A value from the user cannot be used.

    The message is one line that names the value, what is allowed and, where it is not
    plain, what to do. `ltjax.main` prints it and exits with code 2; in library use it is
    an ordinary `ValueError`.
    """


def require(ok: bool, name: str, value: object, allowed: str) -> None:
    """Raises `InputError` naming `name`, `value` and what is `allowed` unless `ok`.

    >>> require(False, "train.batch_size", -3, "an integer >= 1")
    Traceback (most recent call last):
    ...
    ltjax.errors.InputError: train.batch_size = -3 is not allowed; use an integer >= 1
    """
    if not ok:
        raise InputError(f"{name} = {value!r} is not allowed; use {allowed}")
