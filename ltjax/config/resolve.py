"""Checks a configuration, and fills in what method, stage and seed decide."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, get_type_hints

import ml_collections

from ltjax.config.recipes import METHODS, STAGES, UNTRAINED_STAGES
from ltjax.config.schema import SCHEMA, Config, default, flatten, get, put, suggestion
from ltjax.errors import InputError


def resolve(config: ml_collections.ConfigDict | Mapping[str, Any] | Config) -> Config:
    """Checks a configuration and fills in what `method` and `seed` decide.

    Args:
      config: the base configuration with overrides, the content of a `config.json`, or a
        resolved configuration, which comes back as it is.

    Returns:
      A frozen configuration without "auto".

    Raises:
      InputError: an unknown or missing key, or a value out of range.
    """
    flat = flatten(config)
    unknown = sorted(set(flat) - set(SCHEMA))
    if unknown:
        raise InputError(f"config.{unknown[0]} is not a key; {suggestion(unknown[0])}")
    missing = sorted(set(SCHEMA) - set(flat))
    if missing:
        raise InputError(f"config.{missing[0]} is missing; start from ltjax.config.default()")
    for path, value in flat.items():
        if value is not None or not SCHEMA[path].optional:
            SCHEMA[path].option.check(f"config.{path}", value)
    decided = {**METHODS[flat["method"]], **STAGES[flat["stage"]]}
    flat.update({k: v for k, v in decided.items() if flat[k] == "auto"})
    if flat["runlocal"]:
        _shrink(flat)
    flat["seeds"] = tuple(flat["seeds"]) or (flat["seed"],)
    flat["seed"] = flat["seeds"][0]
    _check_stage(flat)
    if flat["data.seed"] is None:
        flat["data.seed"] = flat["seed"]
    if flat["evaluation.few_below"] > flat["evaluation.many_above"] + 1:
        raise InputError(
            f"config.evaluation.few_below = {flat['evaluation.few_below']} is above "
            f"evaluation.many_above + 1 = {flat['evaluation.many_above'] + 1}; groups would overlap"
        )
    return _build(Config, flat)


def _build(section: type[Any], flat: dict[str, Any], prefix: str = "") -> Any:
    """The dataclass of a section, its values in the types that the keys have."""
    typed = default()  # converts an integer to a float, a list to a tuple, and refuses the rest
    values: dict[str, Any] = {}
    hints = get_type_hints(section)
    for field in dataclasses.fields(section):
        path = prefix + field.name
        if dataclasses.is_dataclass(hints[field.name]):
            values[field.name] = _build(hints[field.name], flat, f"{path}.")
            continue
        try:
            put(typed, path, flat[path])
        except (TypeError, ValueError) as e:
            kinds = " or ".join(kind.__name__ for kind in SCHEMA[path].types)
            raise InputError(
                f"config.{path} = {flat[path]!r} is not allowed; its type is {kinds}"
            ) from e
        values[field.name] = get(typed, path)
    return section(**values)


def _shrink(flat: dict[str, Any]) -> None:
    """Makes a run of a minute or so on two cores of what a config describes."""
    flat["train.epochs"] = min(flat["train.epochs"], 2)
    flat["optimizer.warmup_epochs"] = min(flat["optimizer.warmup_epochs"], 1)
    flat["evaluation.every_epochs"] = flat["checkpoint.every_epochs"] = 1
    flat["train.log_every_steps"] = 1
    flat["train.batch_size"] = min(flat["train.batch_size"], 64)
    flat["evaluation.batch_size"] = min(flat["evaluation.batch_size"], 128)
    flat["data.limit"] = min(flat["data.limit"] or 512, 512)
    if flat["data.name"] not in ("digits", "npz") and flat["data.image_size"]:
        flat["data.image_size"] = min(flat["data.image_size"], 64)


def _check_stage(flat: dict[str, Any]) -> None:
    """Refuses keys of stage two that do not go together."""
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
    if (
        stage == "tau_norm"
        and flat["decoupled.tau"] is None
        and not flat["data.validation_fraction"]
    ):
        raise InputError(
            "config.decoupled.tau = None is not allowed without held-out images; give tau, or "
            "train both stages with config.data.validation_fraction > 0, and tau is chosen on those"
        )
    if stage == "one" and flat["model.head"] in ("tau_norm", "lws"):
        raise InputError(
            f"config.model.head = {flat['model.head']} is not allowed in stage one: it is made of "
            "a trained linear head; use linear or cosine"
        )


def check_devices(config: Config, devices: int) -> None:
    """Refuses batch sizes that the devices do not divide."""
    for path in ("train.batch_size", "evaluation.batch_size"):
        size = get(config, path)
        if size % devices:
            raise InputError(
                f"config.{path} = {size} is not divisible by the {devices} devices; "
                f"use a multiple of {devices}, or another number of devices (config.cpu_devices)"
            )


# Keys that say how a run is carried out, not what is trained: they may change on resume. Another
# number of devices changes the order of sums, so then results agree to rounding only.
FREE_ON_RESUME = (
    "cpu_devices",
    "data.workers",
    "data.threads",
    "engine.mapping",
    "engine.steps_per_call",
    "profile_steps",
)


def differences(mine: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """`key: other -> mine` for every key whose value differs; both as `flatten` gives.

    Keys of `FREE_ON_RESUME` are left out.
    """

    def show(flat: dict[str, Any], key: str) -> str:
        return json.dumps(flat[key]) if key in flat else "(absent)"

    return [
        f"{key}: {show(other, key)} -> {show(mine, key)}"
        for key in sorted((set(mine) | set(other)) - set(FREE_ON_RESUME))
        if show(mine, key) != show(other, key)
    ]


def thresholds(config: Config) -> dict[str, int]:
    """Keyword arguments of the shot groups."""
    return {name: getattr(config.evaluation, name) for name in ("many_above", "few_below")}


def training_epochs(config: Config) -> int:
    """Epochs of training: none for a stage that only computes its head."""
    return 0 if config.stage in UNTRAINED_STAGES else config.train.epochs


def steps(epochs: int, steps_per_epoch: int) -> int:
    """Steps of so many epochs."""
    return epochs * steps_per_epoch
