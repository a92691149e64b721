"""Refuses values of a configuration that do not go together."""

from typing import Any

from ltjax.config.recipes import STAGES
from ltjax.data.vectors import VECTOR_FILES
from ltjax.errors import InputError, one_line
from ltjax.losses.probabilistic import SMALLEST_SIZE
from ltjax.models.pretrained import entry_of
from ltjax.models.registry import TAKE_FEATURES, WITHOUT_DEPTH

FlatConfig = dict[str, Any]  # dotted keys to values


def check_combinations(flat: FlatConfig) -> None:
    """Refuses values that are allowed one by one, but not together.

    Args:
      flat: dotted keys to values, with no "auto" of the method or the stage left.

    Raises:
      InputError: two keys that do not go together, with what to use instead.
    """
    _check_stage(flat)
    _check_groups(flat)
    _check_features(flat)
    _check_averages(flat)
    _check_mixing(flat)
    _check_contrastive(flat)
    _check_depth(flat)
    _check_experts(flat)
    if flat["model.weights"]:
        entry_of(flat["model.weights"], flat["model.name"])
    _check_finetune(flat)


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
    if stage == "one" and flat["model.head"] in ("tau_norm", "lws", "marc", "max_norm"):
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


def _check_contrastive(flat: FlatConfig) -> None:
    """Refuses a contrastive loss where features are not trained on two views of single images."""
    allowed = {
        "stage": flat["stage"] == "one",
        "train.mixing": flat["train.mixing"] == "none",
        "data.name": flat["data.name"] != "features",
        "finetune.train": flat["finetune.train"] != "head",
    }
    wrong = [key for key, fits in allowed.items() if not fits]
    if flat["loss.contrastive"] and wrong:
        raise InputError(
            f"config.loss.contrastive = {flat['loss.contrastive']} is not allowed with "
            f"config.{wrong[0]} = {flat[wrong[0]]}: the features of two views of every image are "
            "trained; use 0"
        )
    size = flat["model.projection"]
    if flat["loss.contrastive"] and flat["loss.contrast"] == "proco" and size < SMALLEST_SIZE:
        raise InputError(
            f"config.model.projection = {size} is not allowed with config.loss.contrast = proco; "
            f"use {SMALLEST_SIZE} or more"
        )


def _check_depth(flat: FlatConfig) -> None:
    """Refuses stochastic depth in networks that do not drop branches."""
    drop, name = flat["model.stochastic_depth"], flat["model.name"]
    if drop and name in WITHOUT_DEPTH:
        raise InputError(
            f"config.model.stochastic_depth = {drop} is not allowed with config.model.name = "
            f"{name}; use 0, a ResNet or a Vision Transformer"
        )


def _check_experts(flat: FlatConfig) -> None:
    """Refuses several heads where the head is made from another one, or is trained alone."""
    allowed = {
        "stage": flat["stage"] == "one",
        "model.head_init": flat["model.head_init"] == "random",
        "data.name": flat["data.name"] != "features",
        "finetune.train": flat["finetune.train"] != "head",
    }
    wrong = [key for key, fits in allowed.items() if not fits]
    if flat["model.experts"] > 1 and wrong:
        raise InputError(
            f"config.model.experts = {flat['model.experts']} is not allowed with config.{wrong[0]} "
            f"= {flat[wrong[0]]}; use 1"
        )


def _check_mixing(flat: FlatConfig) -> None:
    """Refuses images beside mixed ones where none are mixed."""
    if flat["train.regmixup"] and flat["train.mixing"] == "none":
        raise InputError(
            "config.train.regmixup = True is not allowed with config.train.mixing = none; use "
            "mixup, remix or cutmix"
        )


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
