"""Checks a configuration, and fills in what method, stage and seed decide."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, get_type_hints

import numpy as np
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict

from ltjax.config.recipes import METHODS, STAGES
from ltjax.config.schema import SCHEMA, SECTIONS, Config, Key, flatten, get, suggestion
from ltjax.data.vectors import VECTOR_FILES
from ltjax.errors import InputError, one_line, require
from ltjax.models.pretrained import entry_of
from ltjax.models.registry import TAKE_FEATURES

FlatConfig = dict[str, Any]  # dotted keys to values


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
    _check_stage(flat)
    _check_groups(flat)
    _check_features(flat)
    _check_averages(flat)
    if flat["model.weights"]:
        entry_of(flat["model.weights"], flat["model.name"])
    _check_finetune(flat)
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
    # A second stage, or one on given features, trains neither backbone nor whitening, so their
    # statistics fit; those of frozen layers must stay as they are.
    fixed = flat["model.name"] in TAKE_FEATURES and not tuple(flat["model.hidden"] or ())
    partly = flat["finetune.train"] not in ("all", "norm_and_bias")
    averaged = flat["optimizer.ema_decay"] or flat["optimizer.swa_epochs"]
    if not averaged or flat["stage"] != "one" or fixed or partly:
        flat["optimizer.ema_batches"] = 0


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
_SMALL = ("convnet", "resnet8_cifar", "resnet20_cifar", "resnet32_cifar", "mlp")


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
    if flat["data.name"] not in ("digits", "npz", "features") and flat["data.image_size"]:
        flat["data.image_size"] = min(flat["data.image_size"], 32 if large else 64)
    flat["model.dtype"] = "float32"  # a CPU computes in bfloat16 more slowly


def _check_stage(flat: FlatConfig) -> None:
    """Refuses combinations of stage, head and `init_from` that cannot work."""
    stage = flat["stage"]
    if (stage == "one") != (flat["init_from"] == ""):
        raise InputError(
            f"config.stage = {stage} with config.init_from = {flat['init_from']!r} is not allowed; "
            "stage two needs the workdir of a finished stage one, and stage one needs none"
        )
    head = STAGES[stage].get("model.head", flat["model.head"])
    if flat["model.head"] != head:
        raise InputError(
            f"config.model.head = {flat['model.head']} is not allowed with config.stage = {stage}; "
            f"use {head} or auto"
        )
    if stage == "one" and flat["model.head"] in ("tau_norm", "lws", "marc"):
        raise InputError(
            f"config.model.head = {flat['model.head']} is not allowed in stage one, since it is "
            "made from a trained linear head; use linear or cosine"
        )


def _check_finetune(flat: FlatConfig) -> None:
    """Refuses to freeze what nobody has trained, and starts of the head that cannot be."""
    train, init = flat["finetune.train"], flat["model.head_init"]
    given = flat["data.name"] == "features"
    if train != "all" and given:
        raise InputError(
            f"config.finetune.train = {train} is not allowed with config.data.name = features, "
            "where there is no backbone to train; use all"
        )
    if train != "all" and not flat["model.weights"] and not flat["runlocal"]:
        raise InputError(
            f"config.finetune.train = {train} freezes a backbone that starts from random numbers; "
            "set config.model.weights, or use all"
        )
    if init == "random":
        return
    where = "config.model.head_init = " + str(one_line(init, most=200))
    if given or flat["stage"] != "one":
        raise InputError(
            f"{where} is not allowed on given features or in a second stage; use random"
        )
    if init != "class_means" and not init.endswith(VECTOR_FILES):
        raise InputError(
            f"{where} is not allowed; use random, class_means or a file {', '.join(VECTOR_FILES)}"
        )
    if init != "class_means" and flat["whitening.method"] != "none":
        raise InputError(
            f"{where} is not allowed with config.whitening.method = {flat['whitening.method']}: "
            "its vectors are of features that are not whitened; use none, or class_means"
        )


def _check_groups(flat: FlatConfig) -> None:
    few, many = flat["evaluation.few_below"], flat["evaluation.many_above"]
    if few > many + 1:
        raise InputError(
            f"config.evaluation.few_below = {few} is above evaluation.many_above + 1 = {many + 1}; "
            "the groups would overlap"
        )


# What is done to images alone, with the values that turn it off.
_OFF_FOR_FEATURES = {
    "augment.max_shift": 0,
    "augment.flip": False,
    "augment.rand_ops": 0,
    "augment.policy": "none",
    "augment.cutout": 0,
    "augment.erasing": 0.0,
    "augment.crop_area": 1.0,
    "augment.colour_jitter": 0.0,
}


def _check_averages(flat: FlatConfig) -> None:
    """Refuses two averages of the parameters at once."""
    decay, epochs = flat["optimizer.ema_decay"], flat["optimizer.swa_epochs"]
    if decay and epochs:
        raise InputError(
            f"config.optimizer.ema_decay = {decay} is not allowed with "
            f"config.optimizer.swa_epochs = {epochs}, since one average is evaluated; set one to 0"
        )


def _check_features(flat: FlatConfig) -> None:
    """Refuses networks and augmentation of images on features, and the reverse."""
    given, model = flat["data.name"] == "features", flat["model.name"]
    hidden = tuple(flat["model.hidden"])
    if given and model not in TAKE_FEATURES:
        raise InputError(
            f"config.model.name = {model} is not allowed with config.data.name = features; "
            f"use {', '.join(TAKE_FEATURES)} (--config features_lt)"
        )
    if not given and model in TAKE_FEATURES and not hidden:
        raise InputError(
            f"config.model.hidden = () is not allowed with config.model.name = {model} and "
            f"config.data.name = {flat['data.name']}; use widths, as (64,), or data.name = features"
        )
    if given and flat["train.mixing"] == "cutmix":
        raise InputError(
            "config.train.mixing = cutmix is not allowed with config.data.name = features, which "
            "are no images; use mixup, remix or none"
        )
    for key, off in _OFF_FOR_FEATURES.items():
        if given and flat[key] != off:
            raise InputError(
                f"config.{key} = {flat[key]} is not allowed with config.data.name = features, "
                f"which are no images; use {off}"
            )
    if model not in TAKE_FEATURES and hidden:
        raise InputError(
            f"config.model.hidden = {hidden} is not allowed with config.model.name = "
            f"{model}; use ()"
        )


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
