"""The errors of the package, the checks that raise them, and the declaration of options."""

from ltjax.errors.base import (
    InputError,
    Interrupted,
    MissingExtraError,
    check_labels,
    is_integer,
    needs_train_extra,
    require,
    require_integer,
)
from ltjax.errors.options import (
    FLAG,
    TEXT,
    Allowed,
    Option,
    integer,
    number,
    number_or,
    one_of,
    option,
    options_of,
)
from ltjax.errors.text import (
    one_line,
    print_any_text,
    shown,
    some_of,
    visible,
)

__all__ = [
    "FLAG",
    "TEXT",
    "Allowed",
    "InputError",
    "Interrupted",
    "MissingExtraError",
    "Option",
    "check_labels",
    "integer",
    "is_integer",
    "needs_train_extra",
    "number",
    "number_or",
    "one_line",
    "one_of",
    "option",
    "options_of",
    "print_any_text",
    "require",
    "require_integer",
    "shown",
    "some_of",
    "visible",
]
