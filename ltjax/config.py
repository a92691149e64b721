"""The configuration: one table of keys with defaults, ranges and meanings; checks; methods."""

import difflib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_collections
from ml_collections import config_dict

from ltjax.errors import InputError
from ltjax.methods import METHODS, STAGES, UNTRAINED_STAGES

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


_ANY_TEXT: tuple[Check, str] = (lambda v: True), "text"
_ANY_NAME: tuple[Check, str] = (lambda v: v != ""), "digits, npz, folder, list, or a name of TFDS"
_FLAG: tuple[Check, str] = (lambda v: True), "True or False"
_BACKBONES = (
    "convnet",
    *(f"resnet{depth}_cifar" for depth in (8, 20, 32, 44, 56, 110)),
    *("resnet10", "resnet18", "resnet50", "resnet101", "resnet152", "resnext50_32x4d"),
)
_HEADS = ("auto", "linear", "cosine", "tau_norm", "lws")
_WHITENINGS = ("none", "batch_norm", "zca", "zca_svd", "newton_schulz", "cholesky")
_LOSSES = (
    *("auto", "cross_entropy", "logit_adjustment", "balanced_softmax", "vs", "ldam", "lade"),
    *("equalization", "seesaw"),
)
_WEIGHTINGS = ("auto", "none", "inverse", "class_balanced", "drw")
_PLANS = (
    *("auto", "instance", "square_root", "class_balanced", "reverse"),
    *("progressive", "repeat_factor", "class_aware", "b3rs", "b3rs_bet"),
)

SCHEMA: dict[str, Key] = {
    "method": Key("cw_la_b3rs_bet", *_choice(*METHODS), "sets every key that is auto"),
    "stage": Key("one", *_choice(*STAGES), "two: the head alone, on the network of init_from"),
    "init_from": Key("", *_ANY_TEXT, "stage two: workdir of the finished stage one"),
    "seed": Key(0, *_integer(0), "of split, plan, initialisation and augmentation"),
    "seeds": Key((), *_integers(0), "several seeds side by side, on one split; () is (seed,)"),
    "cpu_devices": Key(2, *_integer(1), "host devices to train on where there is only a CPU"),
    "runlocal": Key(False, *_FLAG, "shrink the run to about a minute on two cores"),
    "data.name": Key("digits", *_ANY_NAME, "data set; any other name is one of TFDS"),
    "data.path": Key("", *_ANY_TEXT, "npz: file; list: training list with lines 'path label'"),
    "data.test_path": Key("", *_ANY_TEXT, "list: test list; empty: images are held out"),
    "data.dir": Key(
        "",
        *_ANY_TEXT,
        "folder: of CLASS/ or train/CLASS/ and test/CLASS/; list: root; TFDS: data_dir",
    ),
    "data.train_split": Key("train", *_ANY_TEXT, "TFDS: split to train on"),
    "data.test_split": Key("test", *_ANY_TEXT, "TFDS: split to test on"),
    "data.image_size": Key(
        None,
        *_integer(1),
        "pixels of the network's square; None: as stored, else 224",
        int,
    ),
    "data.residency": Key(
        "auto",
        *_choice("auto", "resident", "streamed"),
        "in device memory, or read",
    ),
    "data.resident_megabytes": Key(4096, *_integer(0), "most that auto keeps in device memory"),
    "data.workers": Key(0, *_integer(0), "processes that decode; 0: threads of this one"),
    "data.threads": Key(2, *_integer(1), "that decode, of this process or of each worker"),
    "data.skip_corrupt": Key(False, *_FLAG, "replace a damaged image by another of its class"),
    "data.limit": Key(None, *_integer(1), "keep about so many images of each part", int),
    "data.profile": Key(
        "exponential", *_choice("exponential", "step", "pareto", "as_is"), "thinning of the data"
    ),
    "data.imbalance_factor": Key(20.0, *_number(1), "largest over smallest class"),
    "data.max_count": Key(
        None, *_integer(1), "images of the largest class; None: the most there can be", int
    ),
    "data.test_per_class": Key(50, *_integer(1), "test images held out of each class"),
    "data.seed": Key(None, *_integer(0), "of the split; None takes seed", int),
    "data.validation_fraction": Key(
        0.0, *_number(0, 0.5), "of each class's training images, held out of training"
    ),
    "model.name": Key("convnet", *_choice(*_BACKBONES), "backbone"),
    "model.width": Key(32, *_integer(1), "convnet: channels of the first stage; features: twice"),
    "model.blocks": Key(1, *_integer(1), "convnet: residual blocks per stage"),
    "model.dtype": Key("float32", *_choice("float32", "bfloat16"), "of the backbone's computation"),
    "model.zero_residual": Key(False, *_FLAG, "resnets: start blocks as the identity"),
    "model.head": Key("auto", *_choice(*_HEADS), "classifier"),
    "model.head_scale": Key(30.0, *_number(0, open_low=True), "of the head cosine"),
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
    "whitening.standardize": Key(
        False, *_FLAG, "divide channels by their standard deviation before they are whitened"
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
    "loss.name": Key("auto", *_choice(*_LOSSES), "what is done to the logits"),
    "loss.tau": Key(1.0, *_number(0), "strength of logit_adjustment, vs and posthoc_la"),
    "loss.vs_gamma": Key(0.15, *_number(0), "vs: exponent of the scale"),
    "loss.max_margin": Key(0.5, *_number(0), "ldam: margin of the rarest class"),
    "loss.lade_alpha": Key(0.1, *_number(0), "lade: weight of the regulariser"),
    "loss.equalization_threshold": Key(0.5, *_number(0), "rare: a share below this / classes"),
    "loss.equalization_probability": Key(0.9, *_number(0, 1), "of leaving a rare class out"),
    "loss.weighting": Key("auto", *_choice(*_WEIGHTINGS), "of examples by class"),
    "loss.beta": Key(0.9999, *_number(0, 0.9999999), "class_balanced and drw"),
    "loss.drw_start": Key(0.8, *_number(0, 1), "drw: share of training before it starts"),
    "loss.modulation": Key("auto", *_choice("auto", "none", "focal"), "of examples by certainty"),
    "loss.focal_gamma": Key(2.0, *_number(0), "focal: exponent"),
    "loss.smoothing": Key("auto", *_choice("auto", "none", "uniform", "label_aware"), "of labels"),
    "loss.smoothing_epsilon": Key(0.1, *_number(0, 1), "uniform"),
    "loss.smoothing_head": Key(0.4, *_number(0, 0.99), "label_aware: most frequent class"),
    "loss.smoothing_tail": Key(0.1, *_number(0, 0.99), "label_aware: rarest class"),
    "loss.prior": Key(
        "data", *_choice("data", "plan"), "class prior: of the training set, or of the plan's draws"
    ),
    "loss.embedded_weight": Key(0.5, *_number(0, 1), "BET: weight of the embedded mean"),
    "optimizer.name": Key("sgd", *_choice("sgd", "adamw"), "optax optimiser"),
    "optimizer.learning_rate": Key(0.1, *_number(0, open_low=True), "peak"),
    "optimizer.momentum": Key(0.9, *_number(0, 0.9999), "of sgd"),
    "optimizer.nesterov": Key(False, *_FLAG, "of sgd"),
    "optimizer.weight_decay": Key(5e-4, *_number(0), "of kernels; not of biases and norms"),
    "optimizer.head_rate": Key(
        1.0, *_number(0, open_low=True), "the head's learning rate, as a multiple of the peak"
    ),
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
    "train.epochs": Key(100, *_integer(1), "of ceil(N / batch_size) steps, in either stage"),
    "train.mixing": Key("auto", *_choice("auto", "none", "mixup", "remix"), "of images"),
    "train.mixing_alpha": Key(1.0, *_number(0, open_low=True), "of the Beta distribution"),
    "train.remix_kappa": Key(3.0, *_number(1), "ratio of counts: much rarer"),
    "train.remix_tau": Key(0.5, *_number(0, 1), "share below which the rarer label wins"),
    "augment.max_shift": Key(1, *_integer(0), "random shift in pixels"),
    "augment.flip": Key(False, *_FLAG, "mirror half of the images"),
    "augment.rand_ops": Key(0, *_integer(0), "operations of RandAugment an image; 0 is off"),
    "augment.rand_magnitude": Key(9.0, *_number(0, 10), "of RandAugment"),
    "augment.cutout": Key(0, *_integer(0), "side of the erased square in pixels; 0 is off"),
    "augment.crop_area": Key(
        1.0, *_number(0, 1, open_low=True), "streamed: least area of a random crop; 1 is no crop"
    ),
    "augment.colour_jitter": Key(
        0.0, *_number(0, 1), "streamed: brightness, contrast, saturation; 0 is off"
    ),
    "train.on_nan": Key(
        "stop", *_choice("stop", "skip"), "a loss that is not finite: stop, or skip the update"
    ),
    "train.log_every_steps": Key(20, *_integer(1), "a line of metrics.jsonl"),
    "decoupled.tau": Key(
        None, *_number(0), "tau_norm; None: chosen on data.validation_fraction", float
    ),
    "evaluation.batch_size": Key(256, *_integer(1), "images, over all devices"),
    "evaluation.every_epochs": Key(10, *_integer(1), "during training"),
    "evaluation.many_above": Key(100, *_integer(0), "more training images are many"),
    "evaluation.few_below": Key(20, *_integer(0), "fewer training images are few"),
    "engine.mapping": Key("pmap", *_choice("pmap", "shard_map"), "how steps are mapped"),
    "engine.steps_per_call": Key(
        None, *_integer(1), "steps in one dispatch, at most; None: 2 on CPU, else 20", int
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


def put(config: ml_collections.ConfigDict, path: str, value: Any) -> None:
    """Sets the value at a dotted path.

    >>> config = default()
    >>> put(config, "data.limit", 100)
    >>> config.data.limit
    100
    """
    *sections, name = path.split(".")
    node = get(config, ".".join(sections)) if sections else config
    node[name] = value


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
    resolved = default()
    for path, value in flat.items():
        put(resolved, path, value)
    return ml_collections.FrozenConfigDict(resolved)


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


def suggestion(name: str) -> str:
    """Words that point from an unknown key to one that exists."""
    near = difflib.get_close_matches(name, SCHEMA, n=1, cutoff=0.5)
    leaf = [key for key in SCHEMA if key.split(".")[-1] == name.split(".")[-1]]
    hint = (leaf or near)[:1]
    where = "the keys are listed in docs/config.md"
    return f"did you mean config.{hint[0]}? ({where})" if hint else where


def thresholds(config: Any) -> dict[str, int]:
    """Keyword arguments of the shot groups."""
    return {name: config.evaluation[name] for name in ("many_above", "few_below")}


def training_epochs(config: Any) -> int:
    """Epochs of training: none for a stage that only computes its head."""
    return 0 if config.stage in UNTRAINED_STAGES else config.train.epochs


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
