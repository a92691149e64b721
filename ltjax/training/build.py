"""Builds the parts of a run from its configuration; nothing is written here."""

import dataclasses
from typing import Any, NamedTuple

import jax
import optax

from ltjax.augment.host import HostAugment
from ltjax.augment.mixing import BatchMixing
from ltjax.config import Config
from ltjax.data.loader import StreamSettings
from ltjax.data.sources import Source
from ltjax.data.weights import read_pretrained
from ltjax.losses import LossTransform
from ltjax.models import MLP, Classifier, make_backbone, make_model
from ltjax.models.adapters import AdapterSize, LowRank, with_adapters
from ltjax.models.pretrained import Weights
from ltjax.samplers import BatchSampler, index_labels, make_sampler
from ltjax.training.contrast import Contrast, carried_of, contrast_of, projector_of
from ltjax.training.data import RunData, num_blocks_of, read_data
from ltjax.training.inputs import AXIS, ways_of
from ltjax.training.native import Native, choose_native
from ltjax.training.objective import augment_of, loss_of, mixing_of, train_step_of
from ltjax.training.optimizer import (
    Trainable,
    features_stay,
    learning_rate_schedule,
    make_optimizer,
    trained_part,
)
from ltjax.training.prior import ClassStatistics, class_statistics, embedded_weight, with_prior
from ltjax.training.recalibration import (
    MeasurementStep,
    make_measurement_step,
    recalibration_batches,
)
from ltjax.training.state import TrainState, init_state, with_backbone
from ltjax.training.step import TrainStep


class Job(NamedTuple):
    """The parts of a run, built from its configuration.

    Attributes:
      data: the images.
      seeds: the seeds, trained side by side.
      samplers: the batches of each seed.
      epochs: of the schedule of the batches.
      stream: how images are read that do not lie in device memory, for any one host.
      host_augment: augmentation of such images while they are read.
      model: network.
      pretrained: weights that the backbone starts from, or None.
      native: whether it uses native kernels, and why not where it was asked to.
      losses: of each seed; they differ only in their `init`.
      classes: what the constants of each seed's loss are made from.
      embedded_weight: BET's weight of the embedded mean; None where the sampler embeds nothing.
      mixing: of the images of a batch, or None.
      contrast: the contrastive loss, or None.
      train_step: step of one device and one seed.
      optimizer: optax transformation.
      learning_rate: of a step.
      averaged: whether a moving average of the parameters is kept.
      measurement_step: measures batch statistics, for one device and one seed.
      recalibration_batches: training batches that the average's statistics are taken from; 0 where
        it has none of its own.
      trainable: what of the parameters is trained, None for all.
      features_stay: whether backbone and whitening are not trained at all.
      lora: size of the matrices of LoRA, or None.
      caches_features: whether the step takes features of the backbone, which are computed once.
      total_steps: steps of the training; 0 for a stage that only computes its head.
      eval_batch_size: images of a batch of the evaluation, over all devices.
      carried: what the contrastive loss carries from step to step, before the first one.
    """

    data: RunData
    seeds: tuple[int, ...]
    samplers: list[BatchSampler]
    epochs: int
    stream: StreamSettings
    host_augment: HostAugment
    model: Classifier
    pretrained: Weights | None
    native: Native
    losses: list[LossTransform]
    classes: list[ClassStatistics]
    embedded_weight: float | None
    mixing: BatchMixing | None
    contrast: Contrast | None
    train_step: TrainStep
    optimizer: optax.GradientTransformation
    learning_rate: optax.Schedule
    averaged: bool
    measurement_step: MeasurementStep
    recalibration_batches: int
    trainable: Trainable
    features_stay: bool
    lora: LowRank | None
    caches_features: bool
    total_steps: int
    eval_batch_size: int
    carried: Any

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, the same for all seeds."""
        return self.samplers[0].steps_per_epoch


def build(config: Config, *, data: RunData | None = None, began_native: bool | None = None) -> Job:
    """Builds the parts of a run.

    Args:
      config: resolved configuration.
      data: what `read_data` gives for it, where it has been read already.
      began_native: see `choose_native`.

    Raises:
      InputError: values that do not go together, or data that cannot be read.
    """
    data = data or read_data(config)
    samplers = samplers_of(config, data.train)
    total = config.training_epochs * samplers[0].steps_per_epoch
    native = choose_native(config, total, data.train.image_shape, began=began_native)
    model = model_of(config, len(data.train.class_names), native=native.used)
    counts, labels = data.train.class_counts, data.train.labels
    classes = [class_statistics(config, counts, labels, sampler) for sampler in samplers]
    losses = [
        with_prior(loss_of(config, total, seed), found, samplers[0].steps_per_epoch)
        for seed, found in zip(config.seeds, classes, strict=True)
    ]
    learning_rate = learning_rate_of(config, samplers[0].steps_per_epoch)
    optimizer, mixing = optimizer_of(config, learning_rate), mixing_of(config)
    contrast = contrast_of(config, classes[0], samplers[0].steps_per_epoch)
    caches = caches_features(config, len(labels), model)
    stepped = Classifier(MLP(), model.head, model.whitening) if caches else model
    return Job(
        data=data,
        seeds=config.seeds,
        samplers=samplers,
        epochs=config.train.epochs,
        stream=StreamSettings(config.data.workers, config.data.threads, config.data.skip_corrupt),
        host_augment=HostAugment(
            (config.augment.crop_area, 1.0), jitter=config.augment.colour_jitter
        ),
        model=model,
        pretrained=_pretrained(config),
        native=native,
        losses=losses,
        classes=classes,
        embedded_weight=embedded_weight(config),
        mixing=mixing,
        contrast=contrast,
        train_step=train_step_of(
            config, stepped, losses[0], optimizer, mixing, samplers[0], contrast
        ),
        optimizer=optimizer,
        learning_rate=learning_rate,
        averaged=config.optimizer.averaged,
        measurement_step=make_measurement_step(
            model,
            augment=augment_of(config),
            ways=ways_of(mixing, regmixup=config.train.regmixup, twice=contrast is not None),
        ),
        recalibration_batches=recalibration_batches(config, samplers[0].steps_per_epoch),
        trainable=trained_part(config),
        features_stay=features_stay(config),
        lora=lora_of(config),
        caches_features=caches,
        total_steps=total,
        eval_batch_size=config.evaluation.batch_size,
        carried=carried_of(config, len(data.train.class_names)),
    )


def _pretrained(config: Config) -> Weights | None:
    """The weights that the backbone starts from; adapters, which no file has, are left out."""
    weights = config.model.weights
    if not weights:
        return None
    return read_pretrained(weights, config.model.name, make_backbone(config.model)).weights


def caches_features(config: Config, images: int, model: Classifier) -> bool:
    """Whether a run computes the features of its training images once, before the first step.

    They are always the same where the backbone is not trained and images are not changed at
    random. They must fit into the memory that images may take. Seeds share them, so they must
    share the backbone.

    Args:
      config: resolved configuration.
      images: number of training images.
      model: network.
    """
    size = model.backbone.features
    frozen = config.finetune.train == "head" and config.stage == "one"
    if not frozen or size is None or not (config.model.weights or len(config.seeds) == 1):
        return False
    if not config.augment.none or config.train.mixing != "none":
        return False
    return images * size * 4 <= config.data.resident_megabytes * 2**20


def lora_of(config: Config) -> LowRank | None:
    """The size of LoRA's matrices in a run's state; a second stage finds them merged."""
    finetune = config.finetune
    if config.stage != "one" or finetune.train != "lora":
        return None
    return LowRank(finetune.lora_rank, finetune.lora_alpha)


def initial_state(job: Job, seed: int) -> TrainState:
    """The state of a seed before its first step."""
    init, _ = keys(seed)
    state = init_state(
        job.model,
        job.optimizer,
        init,
        job.data.train.image_shape,
        ema=job.averaged,
        recalibrated=job.recalibration_batches > 0,
        trainable=job.trainable,
        lora=job.lora,
        contrast=job.carried,
    )
    return state if job.pretrained is None else with_backbone(state, job.pretrained.backbone)


def model_of(config: Config, num_classes: int, *, native: bool = False) -> Classifier:
    """The network of a configuration, with the adapters of its fine-tuning."""
    model = make_model(config.model, config.whitening, num_classes, axis_name=AXIS, native=native)
    if config.loss.contrastive:
        model = model.clone(projector=projector_of(config, num_classes))
    finetune = config.finetune
    if finetune.train != "adapter":
        return model
    size = AdapterSize(finetune.adapter_width, finetune.adapter_scale)
    return model.clone(backbone=with_adapters(model.backbone, size))


def optimizer_of(config: Config, schedule: optax.Schedule) -> optax.GradientTransformation:
    """The optimizer of a configuration; the shape of its state is the same for any schedule."""
    optimizer = config.optimizer
    return make_optimizer(
        schedule,
        name=optimizer.name,
        momentum=optimizer.momentum,
        nesterov=optimizer.nesterov,
        weight_decay=optimizer.weight_decay,
        decay=optimizer.decay,
        clip_norm=optimizer.clip_norm,
        head_rate=optimizer.head_rate,
        layer_decay=config.finetune.layer_decay,
    )


def samplers_of(config: Config, train: Source) -> list[BatchSampler]:
    """The batches of each seed of a configuration."""
    index = index_labels(train.labels, train.class_names)
    size, epochs = config.train.batch_size, config.train.epochs
    plan = dataclasses.replace(config.plan, num_blocks=num_blocks_of(config, train))
    return [make_sampler(plan, index, size, seed=seed, epochs=epochs) for seed in config.seeds]


def learning_rate_of(config: Config, steps_per_epoch: int) -> optax.Schedule:
    """The learning rate of each step."""
    optimizer = config.optimizer
    return learning_rate_schedule(
        name=optimizer.schedule,
        learning_rate=optimizer.learning_rate,
        warmup_steps=optimizer.warmup_epochs * steps_per_epoch,
        total_steps=config.training_epochs * steps_per_epoch,
        warmup_stairs=optimizer.warmup_epochs if optimizer.warmup == "epochs" else 0,
        milestones=[epoch * steps_per_epoch for epoch in optimizer.milestones],
        milestone_factor=optimizer.milestone_factor,
        cycles=optimizer.cycles,
    )


def keys(seed: int) -> tuple[jax.Array, jax.Array]:
    """PRNG keys of the initialization and of the augmentation."""
    init, augment = jax.random.split(jax.random.key(seed))
    return init, augment
