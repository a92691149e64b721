"""Data, network and schedule of the experiments on accuracy, and their rows."""

import ast
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections

from experiments import mnist
from ltjax import config as configs
from ltjax.data.longtail import exponential_counts
from ltjax.data.places import read_by

HELD_OUT = 0.2  # of each class's training images, where something is chosen on them


class Protocol(NamedTuple):
    """What all rows of a table share.

    Attributes:
      words: one sentence.
      config: module of the configuration it starts from.
      overrides: keys of the configuration that it changes.
      stage_two_epochs: of cRT and LWS.
      split_ratio: `n_test / n_train` where every seed splits one pool of images; None where all
        runs share one test set, which has as many images of every class.
      held_out_ratio: the same of the images that it holds out: these over all others of the pool.
      profile: images of the largest class, classes and imbalance factor of the training images of
        a protocol with one test set.
      prepare: makes the file that `data.path` names, where it does not exist before.
    """

    words: str
    config: str
    overrides: dict[str, Any]
    stage_two_epochs: int = 10
    split_ratio: float | None = None
    held_out_ratio: float | None = None
    profile: tuple[int, int, float] = (1, 1, 1.0)
    prepare: Callable[[], Path] | None = None

    def make(self) -> ml_collections.ConfigDict:
        """A fresh configuration, before the overrides."""
        return importlib.import_module(self.config).get_config()


# 500 of the 1,797 digits are for testing; of the others a long tail is drawn, of at most 128 images
# of a class.
_DIGITS, _DIGITS_RATIO, _LARGEST_OF_DIGITS = 1797, 500 / 1297, 128


def _digits(factor: float) -> Protocol:
    return Protocol(
        f"Digits of scikit-learn (8 x 8), imbalance factor {factor:g}; the split follows the seed",
        "configs.digits_lt",
        {"data.imbalance_factor": factor},
        split_ratio=_DIGITS_RATIO,
    )


# The largest class at each imbalance factor, so that all have about 317 images and as many steps.
_LARGEST = {1: 32, 5: 63, 20: 95, 100: 128}
EQUAL_SIZE = {factor: f"digits_equal_{factor}" for factor in _LARGEST}


def _digits_of_equal_size(factor: int, largest: int) -> Protocol:
    protocol = _digits(factor)
    overrides = {**protocol.overrides, "data.max_count": largest}
    return protocol._replace(
        words=f"{protocol.words}; largest class {largest}", overrides=overrides
    )


def _mnist(factor: float) -> Protocol:
    return Protocol(
        f"5,000 images of MNIST, 14 x 14, imbalance factor {factor:g}; the split follows the seed",
        "configs.digits_lt",
        {
            "data.name": "npz",
            "data.path": mnist.FILE,
            "data.image_size": 14,
            "data.imbalance_factor": factor,
            "train.epochs": 40,
        },
        split_ratio=500 / 4500,
        prepare=mnist.prepare,
    )


# The field's recipe on smaller images, for a tenth of its epochs: the decay, the initialization and
# the constants of normalization are the recipe's. A cosine takes the place of its two drops, after
# a warm-up that rises at every step, since two epochs are too few for stairs.
_SMALL = {
    "model.name": "resnet8_cifar",
    "data.image_size": 16,
    "augment.max_shift": 2,
    "train.epochs": 20,
    "optimizer.schedule": "cosine",
    "optimizer.warmup": "steps",
    "optimizer.warmup_epochs": 2,
    "evaluation.every_epochs": 5,
    "checkpoint.every_epochs": 20,
}


_PROFILES = {10: (5000, 10, 100.0), 100: (500, 100, 100.0)}


def _cifar(classes: int, small: bool) -> Protocol:
    words = f"CIFAR-{classes}-LT at imbalance factor 100, the field's subset; "
    words += (
        "a small protocol for CPUs: the recipe of Cao et al. with ResNet-8 on images of 16 x 16, "
        "20 epochs, 2 of linear warm-up, then cosine"
        if small
        else "the recipe of Cao et al.: ResNet-32, 200 epochs, in bfloat16"
    )
    # The ridge of all rows, whatever that of the recipe becomes.
    overrides: dict[str, Any] = {"data.name": f"cifar{classes}_lt", "whitening.shrinkage": 0.5}
    return Protocol(
        words,
        f"configs.cifar{classes}_lt",
        overrides | (_SMALL if small else {"model.dtype": "bfloat16"}),
        5 if small else 10,
        profile=_PROFILES[classes],
    )


def _finetuned(classes: int) -> Protocol:
    """The last two stages of a pretrained network, five blocks, on enlarged images."""
    return Protocol(
        f"CIFAR-{classes}-LT at imbalance factor 100, the field's subset, enlarged to 128 pixels; "
        "the last five blocks of EfficientNet-Lite0 from ImageNet learn for 6 epochs",
        "configs.finetune_folder",
        {
            "data.name": f"cifar{classes}_lt",
            "data.profile": "exponential",
            "data.imbalance_factor": 100.0,
            "data.seed": 0,
            "finetune.train": "last_5",
            "augment.flip": True,
            "augment.max_shift": 8,
            "train.epochs": 6,
            "optimizer.warmup_epochs": 1,
            "checkpoint.every_epochs": 1,
        },
        profile=_PROFILES[classes],
    )


def _with(protocol: Protocol, words: str, **overrides: Any) -> Protocol:
    """A protocol with more overrides, `SECTION__KEY`, and what they do in words."""
    more = {name.replace("__", "."): value for name, value in overrides.items()}
    return protocol._replace(words=protocol.words + words, overrides={**protocol.overrides, **more})


def _held_out_ratio(factor: float) -> float:
    """Of the digits that are held out where something is chosen on them, to all others."""
    counts = exponential_counts(_LARGEST_OF_DIGITS, 10, factor)
    held = sum(max(round(HELD_OUT * int(n)), 1) for n in counts)
    return held / (_DIGITS - held)


def _choice(protocol: Protocol) -> Protocol:
    words = "; a fifth of each class's training images is held out"
    return _with(protocol, words, data__validation_fraction=HELD_OUT)


def _subsets(protocol: Protocol) -> Protocol:
    return _with(protocol, "; every seed has its own subset", data__seed=None)


def _in_bfloat16(protocol: Protocol) -> Protocol:
    return _with(protocol, ", in bfloat16", model__dtype="bfloat16")


# A network that is not too small for stronger augmentation, and the epochs that it needs.
def _medium(protocol: Protocol) -> Protocol:
    words = "; but ResNet-20, for 100 epochs"
    larger = _with(protocol, words, model__name="resnet20_cifar", train__epochs=100)
    return _in_bfloat16(larger)


# The ridge of the rows of experiments/baseline, unless they name another, whatever the default
# becomes.
def _with_ridge(protocol: Protocol) -> Protocol:
    return _with(protocol, "", whitening__shrinkage=0.1)


PROTOCOLS: dict[str, Protocol] = {
    **{f"digits_{factor}": _digits(factor) for factor in (10, 20, 50)},
    **{EQUAL_SIZE[f]: _digits_of_equal_size(f, most) for f, most in _LARGEST.items()},
    "mnist_100": _mnist(100),
    "cifar10_small": _cifar(10, True),
    "cifar100_small": _cifar(100, True),
    "baseline_cifar10": _with_ridge(_cifar(10, True)),
    "baseline_digits": _with_ridge(_digits(50)),
    "choice_digits": _choice(_digits(20))._replace(held_out_ratio=_held_out_ratio(20)),
    "choice_cifar10": _choice(_cifar(10, True)),
    "choice_cifar100": _choice(_cifar(100, True)),
    "cifar10_small_subsets": _subsets(_cifar(10, True)),
    "cifar100_small_subsets": _subsets(_cifar(100, True)),
    "cifar10_small_bfloat16": _in_bfloat16(_cifar(10, True)),
    "cifar100_small_bfloat16": _in_bfloat16(_cifar(100, True)),
    "cifar10_medium": _medium(_cifar(10, True)),
    "cifar100_medium": _medium(_cifar(100, True)),
    "cifar10": _cifar(10, False),
    "cifar100": _cifar(100, False),
    "finetuned_cifar100": _finetuned(100),
}

# A row of a table: keys of the configuration. A row with a stage starts from `stage_one` of it.
# BatchNorm has the tiny ridge that it has everywhere.
_NORM = {"whitening.method": "batch_norm", "whitening.shrinkage": 1e-5}
MAIN: dict[str, dict[str, Any]] = {
    "ce": {"method": "ce"},
    "logit_adjustment": {"method": "logit_adjustment"},
    "bn": {"method": "ce", **_NORM},
    "bn_la": {"method": "logit_adjustment", **_NORM},
    "bn_la_slow": {"method": "logit_adjustment", **_NORM, "optimizer.head_rate": 0.1},
    "cw": {"method": "cw"},
    "cw_la": {"method": "cw_la"},
    # With the prior of the batches, the default, and with that of the training set.
    "cw_la_b3rs": {"method": "cw_la_b3rs"},
    "cw_la_b3rs loss.prior=data": {"method": "cw_la_b3rs", "loss.prior": "data"},
    "cw_la_b3rs_bet": {"method": "cw_la_b3rs_bet"},
    "cw_la_b3rs_bet loss.prior=data": {"method": "cw_la_b3rs_bet", "loss.prior": "data"},
    "balanced_softmax": {"method": "balanced_softmax"},
    "ldam_drw": {"method": "ldam_drw"},
    "crt": {"method": "ce", "stage": "crt"},
    "lws": {"method": "ce", "stage": "lws"},
    "tau_norm": {"method": "ce", "stage": "tau_norm"},
    "ncm": {"method": "ce", "stage": "ncm"},
    "posthoc_la": {"method": "ce", "stage": "posthoc_la"},
    "ce_b3rs": {"method": "ce", "plan.name": "b3rs"},
    "ce_b3rs_bet": {"method": "ce", "plan.name": "b3rs_bet"},
    "cw_b3rs": {"method": "cw", "plan.name": "b3rs"},
    "cw_b3rs_bet": {"method": "cw", "plan.name": "b3rs_bet"},
    "cw_crt": {"method": "cw", "stage": "crt"},
    "cw_posthoc_la": {"method": "cw", "stage": "posthoc_la"},
}

# More losses, end to end, on the plain network.
LOSSES: dict[str, dict[str, Any]] = {
    name: {"method": name}
    for name in (
        *("weighted_ce", "class_balanced", "focal", "class_balanced_focal", "ce_drw", "ldam"),
        *("vs", "lade", "equalization", "seesaw", "label_smoothing", "label_aware_smoothing"),
        *("mixup", "remix", "lade_published", "label_aware_smoothing_published"),
        "class_balanced_sigmoid_focal",
    )
}
# Classifiers of scikit-learn on pixels; of the configuration they take the data alone.
CLASSICAL: dict[str, dict[str, Any]] = {
    name: {"method": "ce"} for name in ("logistic_regression", "rbf_svm")
}
ROWS = {**CLASSICAL, **MAIN, **LOSSES}


def stage_one(row: str) -> str | None:
    """The row that trains the network of a row of stage two: the same keys without the stage."""
    keys = dict(ROWS[row])
    if "stage" not in keys:
        return None
    del keys["stage"]
    return next(name for name in MAIN if MAIN[name] == keys)


class Trial(NamedTuple):
    """One training run.

    Attributes:
      row: a name of `ROWS`, or `NAME KEY=VALUE ...` with changes of configuration keys.
      seed: of split, sampler, initialization and augmentation.
    """

    row: str
    seed: int

    @property
    def overrides(self) -> dict[str, Any]:
        """Configuration keys and values."""
        name, *changes = self.row.split(" ")
        found = dict(ROWS[name])
        for change in changes:
            key, text = change.split("=", 1)
            try:
                found[key] = ast.literal_eval(text)
            except (ValueError, SyntaxError):
                found[key] = text
        return found

    @property
    def first(self) -> "Trial | None":
        """The run whose network it starts from, if it is of stage two."""
        row = stage_one(self.row.split(" ")[0])
        return None if row is None else Trial(row, self.seed)


def make_config(
    protocol: Protocol,
    trial: Trial,
    data_dir: str = "",
    *,
    init_from: str = "",
    tau: float | None = None,
    validation_fraction: float = 0.0,
) -> ml_collections.ConfigDict:
    """The configuration of a run, not yet resolved.

    Args:
      protocol: what all rows share.
      trial: row and seed.
      data_dir: folder of the prepared TFDS data sets.
      init_from: workdir of stage one, for a trial of stage two.
      tau: of `tau_norm`; None leaves the choice to the held-out images.
      validation_fraction: of the training images, to hold out.
    """
    changes = {"cpu_devices": 1, **protocol.overrides, "seed": trial.seed, **trial.overrides}
    stage = trial.overrides.get("stage", "one")
    if stage != "one":
        changes["init_from"] = init_from
    if stage in ("crt", "lws", "marc", "max_norm"):
        changes |= {"train.epochs": protocol.stage_two_epochs, "optimizer.warmup_epochs": 0}
    if stage == "tau_norm" and tau is not None:
        changes["decoupled.tau"] = tau
    if validation_fraction:
        changes["data.validation_fraction"] = validation_fraction
    config = protocol.make()
    for path, value in changes.items():
        configs.put(config, path, value)
    if "dir" in read_by(config.data.name):
        config.data.dir = data_dir
    return config
