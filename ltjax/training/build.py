"""Builds the parts of a run from its configuration; nothing is written here."""

import contextlib
import importlib.metadata
import platform
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from ltjax import config as configs
from ltjax.augment.mixing import BatchMixing, make_mixing
from ltjax.config import Config
from ltjax.data.load import load_splits
from ltjax.data.loader import is_resident, pixel_statistics
from ltjax.data.longtail import shot_groups, stratified
from ltjax.data.sources import ArraySource, Source, Splits
from ltjax.data.stream import decode_all
from ltjax.losses import LossTransform, RunFacts, make_loss
from ltjax.models import Classifier, make_model
from ltjax.samplers import BatchSampler, index_labels, make_sampler
from ltjax.samplers.exposure import exposure, summary
from ltjax.training.optimizer import Trainable, make_optimizer, make_schedule, train_part
from ltjax.training.step import AXIS


class Job(NamedTuple):
    """The parts of a run, all functions of the configuration.

    `plans`, `losses` and `loss_counts` have one entry per seed; the losses differ in their
    `init` alone. `embedded_weight` is BET's (None: no slot is embedded). `validation` are training
    images held out of training (None: no images are); `trainable` is the part of the parameters
    that this stage trains (None: all). `resident` says whether images lie in device memory;
    `statistics` are their mean and standard deviation, `damaged` those that others were taken for.
    """

    splits: Splits
    validation: Source | None
    resident: bool
    statistics: tuple[np.ndarray, np.ndarray]
    damaged: dict[str, int]
    plans: list[BatchSampler]
    model: Classifier
    losses: list[LossTransform]
    loss_counts: list[np.ndarray]
    embedded_weight: float | None
    mixing: BatchMixing | None
    trainable: Trainable
    schedule: optax.Schedule
    optimizer: optax.GradientTransformation
    total_steps: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, the same for every plan of the same batch size."""
        return self.plans[0].steps_per_epoch


# What a stage trains; a stage without training has no say, the head all the same.
TRAINED_IN_STAGE: dict[str, Trainable] = {
    "one": None,
    "crt": ("head",),
    "lws": ("head", "scale"),
    "tau_norm": ("head",),
    "ncm": ("head",),
    "posthoc_la": ("head",),
}


def build(config: Config) -> Job:
    """Builds the parts of a run.

    Args:
      config: resolved configuration.

    Raises:
      InputError: values that do not go together, or data that cannot be read.
    """
    data = config.data
    splits = load_splits(data)
    splits, resident, damaged = _place(splits, config)
    assert data.seed is not None  # a resolved configuration's is a number
    splits, validation = _hold_out(splits, data.validation_fraction, data.seed)
    index = index_labels(splits.train.labels, splits.train.class_names)
    epochs = config.train.epochs
    plans: list[BatchSampler] = [
        make_sampler(config.plan, index, config.train.batch_size, seed=seed, epochs=epochs)
        for seed in config.seeds
    ]
    per_epoch = plans[0].steps_per_epoch
    total = configs.steps(configs.training_epochs(config), per_epoch)
    optimizer = config.optimizer
    schedule = make_schedule(
        name=optimizer.schedule,
        learning_rate=optimizer.learning_rate,
        warmup_steps=configs.steps(optimizer.warmup_epochs, per_epoch),
        total_steps=total,
        milestones=[configs.steps(epoch, per_epoch) for epoch in optimizer.milestones],
        milestone_factor=optimizer.milestone_factor,
    )
    return Job(
        splits=splits,
        validation=validation,
        resident=resident,
        statistics=pixel_statistics(splits.train),
        damaged=damaged,
        plans=plans,
        model=model_of(config, len(splits.train.class_names)),
        losses=[_loss(config, total, seed) for seed in config.seeds],
        loss_counts=[_loss_counts(config.loss.prior, splits, plan) for plan in plans],
        embedded_weight=config.loss.embedded_weight if config.plan.name == "b3rs_bet" else None,
        mixing=make_mixing(
            config.train.mixing,
            alpha=config.train.mixing_alpha,
            remix_kappa=config.train.remix_kappa,
            remix_tau=config.train.remix_tau,
        ),
        trainable=TRAINED_IN_STAGE[config.stage],
        schedule=schedule,
        optimizer=optimizer_of(config, schedule),
        total_steps=total,
    )


def model_of(config: Config, num_classes: int) -> Classifier:
    """The network of a configuration."""
    return make_model(config.model, config.whitening, num_classes, axis_name=AXIS)


def optimizer_of(config: Config, schedule: optax.Schedule) -> optax.GradientTransformation:
    """The optimiser of a configuration; the shape of its state is the same for any schedule."""
    optimizer = config.optimizer
    made = make_optimizer(
        schedule,
        name=optimizer.name,
        momentum=optimizer.momentum,
        nesterov=optimizer.nesterov,
        weight_decay=optimizer.weight_decay,
        clip_norm=optimizer.clip_norm,
        head_rate=optimizer.head_rate,
    )
    return train_part(made, TRAINED_IN_STAGE[config.stage])


def _place(splits: Splits, config: Config) -> tuple[Splits, bool, dict[str, int]]:
    """The splits, decoded if they are to lie in device memory; whether; and damaged images."""
    data, (train, test) = config.data, splits
    on_host = config.augment.crop_area < 1 or config.augment.colour_jitter > 0
    images = len(train) + len(test)
    if not is_resident(data.residency, train, images, data.resident_megabytes, on_host):
        return splits, False, {}
    damaged: dict[str, int] = {}
    parts = []
    for part in (train, test):
        if not isinstance(part, ArraySource):
            part, wrong = decode_all(part, skip_corrupt=data.skip_corrupt, threads=data.threads)
            damaged |= wrong
        parts.append(part)
    return Splits(*parts), True, damaged


def _hold_out(splits: Splits, fraction: float, seed: int) -> tuple[Splits, Source | None]:
    """Splits whose training images lack a part of every class, and that part."""
    if not fraction:
        return splits, None
    kept, held = stratified(splits.train.labels, fraction, seed)
    return splits._replace(train=splits.train.subset(kept)), splits.train.subset(held)


def _loss(config: Config, total_steps: int, seed: int) -> LossTransform:
    facts = RunFacts(
        total_steps=total_steps,
        head=config.model.head,
        head_scale=config.model.head_scale,
        mixing=config.train.mixing,
        seed=seed,
        axis_name=AXIS,
    )
    return make_loss(config.loss, facts)


def _loss_counts(prior: str, splits: Splits, plan: BatchSampler) -> np.ndarray:
    """Class counts that the loss's prior is made of: the data's, or the plan's draws."""
    if prior == "data":
        return splits.train.class_counts
    drawn = splits.train.labels[plan.epoch(0).ravel()]
    return np.bincount(drawn, minlength=len(splits.train.class_names))


def describe_data(job: Job, config: Config) -> dict[str, Any]:
    """What a report or a prediction needs to know of the data, for `dataset.json`."""
    train = job.splits.train
    mean, std = job.statistics
    groups = shot_groups(
        train.class_counts,
        many_above=config.evaluation.many_above,
        few_below=config.evaluation.few_below,
    )
    return {
        "name": config.data.name,
        "class_names": list(train.class_names),
        "class_counts": train.class_counts.tolist(),
        "test_counts": job.splits.test.class_counts.tolist(),
        "groups": {name: members.tolist() for name, members in groups._asdict().items()},
        "image_shape": list(train.image_shape),
        "mean": mean.tolist(),
        "std": std.tolist(),
        "fingerprint": {"train": train.fingerprint(), "test": job.splits.test.fingerprint()},
        "plan": repr(job.plans[0]),
        "plan_fingerprints": [plan.fingerprint() for plan in job.plans],
        "exposure": summary(
            exposure(
                job.plans[0],
                train.labels,
                config.train.epochs,
                num_classes=len(train.class_names),
            )
        ),
    }


def keys(seed: int) -> tuple[jax.Array, jax.Array]:
    """PRNG keys of the initialisation and of the augmentation."""
    init, augment = jax.random.split(jax.random.key(seed))
    return init, augment


def versions(devices: list[jax.Device], count: int) -> dict[str, str]:
    """Versions of what computes a result, and the devices it runs on."""
    names = ("ltjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    found["device"] = f"{count} x {devices[0].device_kind}"
    return found
