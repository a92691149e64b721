"""The configuration: one table of keys with defaults, ranges and meanings; checks; methods."""

import difflib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_collections
from ml_collections import config_dict

from ltjax.errors import InputError

Check = Callable[[Any], bool]


class Key(NamedTuple):
    """One configuration key.

    Attributes:
      default: value in the base configuration; its type is the key's type.
      check: whether a value may be used.
      allowed: what may be used, in words.
      meaning: one line.
      optional: the type of a key that may be None, else None.
      mixed: whether the key takes values of several types, which `check` tells apart.
    """

    default: Any
    check: Check
    allowed: str
    meaning: str
    optional: type | None = None
    mixed: bool = False


def _integer(low: int) -> tuple[Check, str]:
    return (lambda v: v >= low), f"an integer >= {low}"


def _number(low: float, high: float = float("inf"), *, open_low: bool = False) -> tuple[Check, str]:
    words = f"a number {'>' if open_low else '>='} {low:g}"
    if high != float("inf"):
        words += f" and <= {high:g}"
    return (lambda v: (v > low if open_low else v >= low) and v <= high), words


def _integers(low: int) -> tuple[Check, str]:
    def check(v: Any) -> bool:
        return len(set(v)) == len(v) and all(type(x) is int and x >= low for x in v)

    return check, f"a tuple of different integers >= {low}"


def _interval() -> tuple[Check, str]:
    def check(v: Any) -> bool:
        return len(v) == 0 or (len(v) == 2 and 0 <= v[0] < v[1])

    return check, "() or (FIRST, LAST), 0 <= FIRST < LAST"


def _choice(*names: str) -> tuple[Check, str]:
    return (lambda v: v in names), "one of " + ", ".join(names)


def _number_or(number: tuple[Check, str], *names: str) -> tuple[Check, str]:
    check, words = number

    def either(value: Any) -> bool:
        if isinstance(value, str):
            return value in names
        return isinstance(value, int | float) and not isinstance(value, bool) and check(value)

    return either, f"{words}, or one of {', '.join(names)}"


# Sections a method sets; a key left at "auto" takes the method's value.
METHODS: dict[str, dict[str, str]] = {
    "ce": {
        "whitening.method": "none",
        "loss.name": "cross_entropy",
        "plan.name": "instance",
    },
    "logit_adjustment": {
        "whitening.method": "none",
        "loss.name": "logit_adjustment",
        "plan.name": "instance",
    },
    "cw": {
        "whitening.method": "zca",
        "loss.name": "cross_entropy",
        "plan.name": "instance",
    },
    "cw_la": {
        "whitening.method": "zca",
        "loss.name": "logit_adjustment",
        "plan.name": "instance",
    },
    "cw_la_b3rs": {
        "whitening.method": "zca",
        "loss.name": "logit_adjustment",
        "plan.name": "b3rs",
    },
    "cw_la_b3rs_bet": {
        "whitening.method": "zca",
        "loss.name": "logit_adjustment",
        "plan.name": "b3rs_bet",
    },
}

_ANY_TEXT: tuple[Check, str] = (lambda v: True), "text"
_FLAG: tuple[Check, str] = (lambda v: True), "True or False"
_WHITENINGS = ("none", "batch_norm", "zca", "zca_svd", "newton_schulz", "cholesky")
_PLANS = (
    *("auto", "instance", "square_root", "class_balanced", "reverse"),
    *("progressive", "repeat_factor", "class_aware", "b3rs", "b3rs_bet"),
)

SCHEMA: dict[str, Key] = {
    "method": Key("cw_la_b3rs_bet", *_choice(*METHODS), "sets every key that is auto"),
    "seed": Key(0, *_integer(0), "of split, plan, initialisation and augmentation"),
    "seeds": Key((), *_integers(0), "several seeds side by side, on one split; () is (seed,)"),
    "cpu_devices": Key(2, *_integer(1), "host devices to train on where there is only a CPU"),
    "data.name": Key("digits", *_choice("digits", "npz"), "data set"),
    "data.path": Key("", *_ANY_TEXT, "file of the data set npz"),
    "data.profile": Key("exponential", *_choice("exponential", "as_is"), "thinning of the data"),
    "data.imbalance_factor": Key(20.0, *_number(1), "largest over smallest class"),
    "data.test_per_class": Key(50, *_integer(1), "test images held out of each class"),
    "data.seed": Key(None, *_integer(0), "of the split; None takes seed", int),
    "model.name": Key("convnet", *_choice("convnet"), "backbone"),
    "model.width": Key(32, *_integer(1), "channels of the first stage; features are twice"),
    "model.blocks": Key(1, *_integer(1), "residual blocks per stage"),
    "whitening.method": Key("auto", *_choice("auto", *_WHITENINGS), "before the classifier"),
    "whitening.shrinkage": Key(
        0.1,
        *_number_or(_number(0, 1, open_low=True), "auto", "ledoit_wolf", "oas"),
        "relative ridge; auto is D / (D + 2 N)",
        mixed=True,
    ),
    "whitening.momentum": Key(0.9, *_number(0, 0.9999), "of the running covariance"),
    "whitening.groups": Key(1, *_integer(1), "of channels, whitened separately"),
    "whitening.memory": Key(
        0.0, *_number(0, 0.9999), "share of the running covariance in training"
    ),
    "whitening.stats_every": Key(1, *_integer(1), "steps between updates of the running values"),
    "whitening.steps": Key(None, *_integer(1), "of newton_schulz; None: until rounding", int),
    "plan.name": Key("auto", *_choice(*_PLANS), "batch plan"),
    "plan.num_blocks": Key(5, *_integer(1), "B3RS: blocks of classes"),
    "plan.balance": Key(0.5, *_number(0, 1), "B3RS: 0 instance-balanced, 1 class-balanced"),
    "plan.partition": Key(
        "classes", *_choice("classes", "log_count", "images"), "B3RS: how classes are cut"
    ),
    "plan.every": Key(1, *_integer(1), "BET: embed at every so many steps"),
    "plan.fraction": Key(0.5, *_number(0, 1, open_low=True), "BET: embedded share of a batch"),
    "plan.threshold": Key(
        0.001,
        *_number(0, 1, open_low=True),
        "repeat_factor: share of the images below which a class is repeated",
    ),
    "plan.images_per_class": Key(4, *_integer(1), "class_aware: images of each class drawn"),
    "loss.name": Key("auto", *_choice("auto", "cross_entropy", "logit_adjustment"), "loss"),
    "loss.tau": Key(1.0, *_number(0), "strength of the logit adjustment"),
    "loss.prior": Key(
        "data", *_choice("data", "plan"), "class prior: of the training set, or of the plan's draws"
    ),
    "loss.embedded_weight": Key(0.5, *_number(0, 1), "BET: weight of the embedded mean"),
    "optimizer.name": Key("sgd", *_choice("sgd", "adamw"), "optax optimiser"),
    "optimizer.learning_rate": Key(0.1, *_number(0, open_low=True), "peak"),
    "optimizer.momentum": Key(0.9, *_number(0, 0.9999), "of sgd"),
    "optimizer.nesterov": Key(False, *_FLAG, "of sgd"),
    "optimizer.weight_decay": Key(5e-4, *_number(0), "of kernels; not of biases and norms"),
    "optimizer.schedule": Key(
        "cosine", *_choice("cosine", "constant", "steps"), "after the warm-up"
    ),
    "optimizer.milestones": Key((160, 180), *_integers(1), "of steps: epochs that lower the rate"),
    "optimizer.milestone_factor": Key(0.01, *_number(0, 1), "of steps: at each milestone"),
    "optimizer.warmup_epochs": Key(5, *_integer(0), "linear, from 0"),
    "optimizer.clip_norm": Key(0.0, *_number(0), "of the global gradient; 0 is off"),
    "optimizer.ema_decay": Key(
        0.0, *_number(0, 0.999999), "moving average of the parameters, for evaluation; 0 is off"
    ),
    "train.batch_size": Key(64, *_integer(1), "images, over all devices"),
    "train.epochs": Key(100, *_integer(1), "of ceil(N / batch_size) steps"),
    "train.max_shift": Key(1, *_integer(0), "random shift in pixels"),
    "train.on_nan": Key(
        "stop", *_choice("stop", "skip"), "a loss that is not finite: stop, or skip the update"
    ),
    "train.log_every_steps": Key(20, *_integer(1), "a line of metrics.jsonl"),
    "evaluation.batch_size": Key(256, *_integer(1), "images, over all devices"),
    "evaluation.every_epochs": Key(10, *_integer(1), "during training"),
    "evaluation.many_above": Key(100, *_integer(0), "more training images are many"),
    "evaluation.few_below": Key(20, *_integer(0), "fewer training images are few"),
    "engine.mapping": Key("pmap", *_choice("pmap", "shard_map"), "how steps are mapped"),
    "engine.steps_per_call": Key(
        None, *_integer(1), "steps in one dispatch, at most; None: 1 on CPU, else 20", int
    ),
    "profile_steps": Key((), *_interval(), "trace of these steps, in the workdir's profile/"),
    "checkpoint.every_epochs": Key(10, *_integer(1), "and at the end"),
    "checkpoint.keep": Key(2, *_integer(1), "newest ones; the best is kept besides"),
}


def default() -> ml_collections.ConfigDict:
    """The base configuration; configs override its values, never its keys or types."""
    config = ml_collections.ConfigDict()
    for path, key in SCHEMA.items():
        *sections, name = path.split(".")
        node = config
        for section in sections:
            if section not in node:
                node[section] = ml_collections.ConfigDict()
            node = node[section]
        if key.mixed:
            node[name] = config_dict.FieldReference(key.default, field_type=object)
        elif key.optional is not None:
            node[name] = config_dict.placeholder(key.optional)
        else:
            node[name] = key.default
    return config


def get(config: ml_collections.ConfigDict, path: str) -> Any:
    """The value at a dotted path."""
    for name in path.split("."):
        config = config[name]
    return config


def flatten(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Dotted paths to values."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            flat.update({f"{name}.{path}": v for path, v in flatten(value).items()})
        else:
            flat[name] = value
    return flat


def resolve(config: ml_collections.ConfigDict) -> ml_collections.FrozenConfigDict:
    """Checks a configuration and fills in what `method` and `seed` decide.

    Args:
      config: the base configuration with overrides.

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
        key = SCHEMA[path]
        if value is None and key.optional is not None:
            continue
        # NaN fails every comparison, so the ranges refuse it too.
        if value is None or not key.check(value):
            raise InputError(f"config.{path} = {value!r} is not allowed; use {key.allowed}")
    flat.update({k: v for k, v in METHODS[flat["method"]].items() if flat[k] == "auto"})
    flat["seeds"] = tuple(flat["seeds"]) or (flat["seed"],)
    flat["seed"] = flat["seeds"][0]
    if flat["data.seed"] is None:
        flat["data.seed"] = flat["seed"]
    if flat["evaluation.few_below"] > flat["evaluation.many_above"] + 1:
        raise InputError(
            f"config.evaluation.few_below = {flat['evaluation.few_below']} is above "
            f"evaluation.many_above + 1 = {flat['evaluation.many_above'] + 1}; groups would overlap"
        )
    resolved = default()
    for path, value in flat.items():
        *sections, name = path.split(".")
        node = get(resolved, ".".join(sections)) if sections else resolved
        node[name] = value
    return ml_collections.FrozenConfigDict(resolved)


def check_devices(config: ml_collections.FrozenConfigDict, devices: int) -> None:
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
FREE_ON_RESUME = ("cpu_devices", "engine.mapping", "engine.steps_per_call", "profile_steps")


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


def suggestion(name: str) -> str:
    """Words that point from an unknown key to one that exists."""
    near = difflib.get_close_matches(name, SCHEMA, n=1, cutoff=0.5)
    leaf = [key for key in SCHEMA if key.split(".")[-1] == name.split(".")[-1]]
    hint = (leaf or near)[:1]
    where = "the keys are listed in docs/config.md"
    return f"did you mean config.{hint[0]}? ({where})" if hint else where


def steps(epochs: int, steps_per_epoch: int) -> int:
    """Steps of so many epochs."""
    return epochs * steps_per_epoch


def key_table() -> str:
    """The keys as a Markdown table, as in docs/config.md."""
    rows = ["| key | default | allowed | meaning |", "|---|---|---|---|"]
    for path, key in SCHEMA.items():
        default_value = repr(key.default).replace("'", "")
        optional = " or None" if key.optional else ""
        rows.append(
            f"| `{path}` | `{default_value or ' '}` | {key.allowed}{optional} | {key.meaning} |"
        )
    return "\n".join(rows) + "\n"
