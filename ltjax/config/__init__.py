"""The configuration: keys with defaults, ranges and meanings; methods and stages; resolution."""

from ltjax.config.recipes import METHODS, STAGES
from ltjax.config.resolve import (
    FREE_ON_RESUME,
    check_devices,
    completed,
    differences,
    resolve,
)
from ltjax.config.schema import (
    SCHEMA,
    Config,
    as_config_dict,
    default,
    flatten,
    get,
    key_table,
    put,
    suggestion,
)

__all__ = [
    "FREE_ON_RESUME",
    "METHODS",
    "SCHEMA",
    "STAGES",
    "Config",
    "as_config_dict",
    "check_devices",
    "completed",
    "default",
    "differences",
    "flatten",
    "get",
    "key_table",
    "put",
    "resolve",
    "suggestion",
]
