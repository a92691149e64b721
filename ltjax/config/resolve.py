"""Checks a configuration, and fills in what method, stage and seed decide."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, get_type_hints

import numpy as np
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from ltjax.config.combinations import FlatConfig, check_combinations
from ltjax.config.recipes import METHODS, STAGES
from ltjax.config.schema import SCHEMA, SECTIONS, Config, Key, flatten, get, suggestion
from ltjax.errors import InputError, one_line, require
from ltjax.models.pretrained import PRETRAINED
from ltjax.models.registry import TAKE_FEATURES
from ltjax.models.vit import VITS


def resolve(config: ConfigDict | Mapping[str, Any] | Config) -> Config:
    """Checks a configuration and fills in what `method`, `stage` and `seed` decide.

    Args:
      config: the base configuration with overrides, the content of a `config.json`, or a
        resolved configuration, which comes back as it is.

    Returns:
      A frozen configuration in which no method's key is "auto".

    Raises:
      InputError: an unknown or missing key, a value that is not allowed, or values that do not
        go together.

    >>> from ltjax.config import default
    >>> config = default()
    >>> config.method = "logit_adjustment"
    >>> resolve(config).loss.name
    'logit_adjustment'
    """
    flat = {path: _plain(value) for path, value in flatten(config).items()}
    if not isinstance(config, ConfigDict):
        flat = completed(flat)
    _check_keys(flat)
    _check_values(flat)
    _fill_in(flat)
    if flat["runlocal"]:
        _shrink(flat)
    check_combinations(flat)
    values = {path: _typed(SCHEMA[path], value) for path, value in flat.items()}
    resolved: Config = _build(Config, unflatten_dict(values, sep="."))
    return resolved


def completed(flat: FlatConfig) -> FlatConfig:
    """A stored configuration with the keys that it is older than.

    Args:
      flat: dotted keys to values.

    Returns:
      The same, and for every key that it lacks the behavior that there was before that key.

    >>> completed({"train.epochs": 5})["loss.prior"]
    'data'
    """
    return {path: key.older for path, key in SCHEMA.items()} | flat


def _plain(value: Any) -> Any:
    """A value of NumPy as Python's, also within a sequence; others as they are."""
    if isinstance(value, tuple | list):
        return tuple(x.item() if isinstance(x, np.generic) else x for x in value)
    return value.item() if isinstance(value, np.generic) else value


def _check_keys(flat: FlatConfig) -> None:
    for section in sorted(SECTIONS & set(flat)):
        keys = ", ".join(key for key in SCHEMA if key.startswith(f"{section}."))
        require(False, f"config.{section}", flat[section], f"the keys of this section: {keys}")
    unknown = sorted(set(flat) - set(SCHEMA))
    if unknown:
        name = one_line(unknown[0], most=100)
        raise InputError(f"config.{name} is not a key; {suggestion(name)}")
    missing = sorted(set(SCHEMA) - set(flat))
    if missing:
        raise InputError(f"config.{missing[0]} is missing; start from ltjax.config.default()")


def _check_values(flat: FlatConfig) -> None:
    for path, value in flat.items():
        key = SCHEMA[path]
        if value is not None or not key.optional:
            plain = isinstance(value, bool | int | float | str | tuple)
            require(plain, f"config.{path}", value, key.allowed)
            key.option.check(f"config.{path}", value)


def _fill_in(flat: FlatConfig) -> None:
    """Replaces "auto" by the value of the stage or the method, and fills in what others imply."""
    decided = METHODS[flat["method"]] | STAGES[flat["stage"]]
    flat.update({key: value for key, value in decided.items() if flat[key] == "auto"})
    flat["seeds"] = tuple(flat["seeds"]) or (flat["seed"],)
    flat["seed"] = flat["seeds"][0]
    if flat["data.seed"] is None:
        flat["data.seed"] = flat["seed"]
    entry = PRETRAINED.get(flat["model.weights"])
    if entry is not None and flat["data.image_size"] is None and _reads_files(flat):
        flat["data.image_size"] = entry.size
    # A second stage, or one on given features, trains neither backbone nor whitening, so their
    # statistics fit; those of frozen layers must stay as they are.
    fixed = flat["model.name"] in TAKE_FEATURES and not tuple(flat["model.hidden"] or ())
    partly = flat["finetune.train"] not in ("all", "norm_and_bias")
    averaged = flat["optimizer.ema_decay"] or flat["optimizer.swa_epochs"]
    if not averaged or flat["stage"] != "one" or fixed or partly:
        flat["optimizer.ema_batches"] = 0


def _reads_files(flat: FlatConfig) -> bool:
    """Whether the images are decoded, and can be resized."""
    return flat["data.name"] not in ("digits", "npz", "features")


def _typed(key: Key, value: Any) -> Any:
    """A value that was checked, in the type of its key: JSON has no tuples, and 1 is a float."""
    if value is None or type(value) in key.types:
        return value
    return next(t for t in key.types if t is not str)(value)


def _build(section: type[Any], nested: Mapping[str, Any]) -> Any:
    """The dataclass of a section and of the sections in it."""
    hints = get_type_hints(section)
    return section(
        **{
            name: _build(hints[name], value) if dataclasses.is_dataclass(hints[name]) else value
            for name, value in nested.items()
        }
    )


# Backbones of which two cores train more than a few images a second.
_SMALL = ("convnet", "resnet8_cifar", "resnet20_cifar", "resnet32_cifar", "vit_tiny", "mlp")


def _shrink(flat: FlatConfig) -> None:
    """Shrinks the run to about a minute on two cores."""
    flat["train.epochs"] = min(flat["train.epochs"], 2)
    flat["optimizer.warmup_epochs"] = min(flat["optimizer.warmup_epochs"], 1)
    flat["evaluation.every_epochs"] = flat["checkpoint.every_epochs"] = 1
    flat["train.log_every_steps"] = 1
    flat["train.batch_size"] = min(flat["train.batch_size"], 64)
    flat["evaluation.batch_size"] = min(flat["evaluation.batch_size"], 128)
    large = flat["model.name"] not in _SMALL
    flat["data.limit"] = min(flat["data.limit"] or 512, 64 if large else 512)
    if _reads_files(flat) and flat["data.image_size"]:
        side = 32 if large else 64
        if flat["model.name"] in VITS:  # whose patches fill the images
            side -= side % VITS[flat["model.name"]].patch
        flat["data.image_size"] = min(flat["data.image_size"], side)
    flat["model.dtype"] = "float32"  # a CPU computes in bfloat16 more slowly
    entry = PRETRAINED.get(flat["model.weights"])
    if entry is not None and entry.package is None:
        flat["model.weights"] = ""  # a file that must be fetched first, and may be large


def check_devices(config: Config, devices: int) -> None:
    """Checks that the batch sizes are multiples of the number of devices.

    Args:
      config: resolved configuration.
      devices: number of devices of all hosts.

    Raises:
      InputError: a batch size is not a multiple of `devices`.
    """
    for path in ("train.batch_size", "evaluation.batch_size"):
        size = get(config, path)
        if size % devices:
            raise InputError(
                f"config.{path} = {size} is not divisible by the {devices} devices; "
                f"use a multiple of {devices}, or another number of devices (config.cpu_devices)"
            )


# Keys that may change on resume: they say how a run is executed, not what is trained. Another
# number of devices changes the order of summation, so results then agree up to rounding.
FREE_ON_RESUME = (
    "cpu_devices",
    "data.workers",
    "data.threads",
    "engine.mapping",
    "engine.steps_per_call",
    "engine.native",
    "profile_steps",
)


def differences(mine: FlatConfig, other: FlatConfig) -> list[str]:
    """Lists the keys whose values differ between two configurations.

    Values are compared as JSON shows them, so that a tuple equals a list. Keys of
    `FREE_ON_RESUME` are left out.

    Args:
      mine: dotted keys to values, as `flatten` gives them.
      other: the same of the other configuration.

    Returns:
      A line `key: other -> mine` for each such key, sorted by key.

    >>> differences({"train.epochs": 5, "seeds": (0,)}, {"train.epochs": 9, "seeds": [0]})
    ['train.epochs: 9 -> 5']
    """

    def show(flat: FlatConfig, key: str) -> str:
        return json.dumps(flat[key]) if key in flat else "(absent)"

    return [
        f"{key}: {show(other, key)} -> {show(mine, key)}"
        for key in sorted((set(mine) | set(other)) - set(FREE_ON_RESUME))
        if show(mine, key) != show(other, key)
    ]
