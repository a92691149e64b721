"""What a configuration says of a training step: its inputs, its loss and what follows from both."""

import optax

from ltjax.augment.device import Augment
from ltjax.augment.mixing import BatchMixing, make_mixing
from ltjax.config import Config
from ltjax.losses import LossTransform, RunFacts, make_loss
from ltjax.models import Classifier
from ltjax.models.max_norm import projected
from ltjax.samplers import BatchSampler
from ltjax.training.contrast import Contrast
from ltjax.training.inputs import AXIS
from ltjax.training.optimizer import averaging_of, features_stay, trained_part
from ltjax.training.prior import embedded_weight
from ltjax.training.step import TrainStep, make_train_step


def mixing_of(config: Config) -> BatchMixing | None:
    """How the images of a batch are mixed, or None."""
    return make_mixing(
        config.train.mixing,
        alpha=config.train.mixing_alpha,
        remix_kappa=config.train.remix_kappa,
        remix_tau=config.train.remix_tau,
    )


def train_step_of(
    config: Config,
    model: Classifier,
    loss: LossTransform,
    optimizer: optax.GradientTransformation,
    mixing: BatchMixing | None,
    sampler: BatchSampler,
    contrast: Contrast | None = None,
) -> TrainStep:
    """The step of one device and one seed.

    Args:
      config: resolved configuration.
      model: network.
      loss: loss transform.
      optimizer: optax transformation.
      mixing: see `mixing_of`.
      sampler: of the batches, which says how many steps an epoch has.
      contrast: see `contrast_of`.

    Returns:
      See `make_train_step`.
    """
    return make_train_step(
        model,
        loss,
        optimizer,
        embedded_weight=embedded_weight(config),
        augment=augment_of(config),
        averaging=averaging_of(config.optimizer, sampler.steps_per_epoch, config.training_epochs),
        sam_rho=config.optimizer.sam_rho,
        skip_nonfinite=config.train.on_nan == "skip",
        mixing=mixing,
        regmixup=config.train.regmixup,
        trainable=trained_part(config),
        features_stay=features_stay(config),
        contrast=contrast,
        diversity=config.loss.diversity,
        projection=projected if config.stage == "max_norm" else None,
    )


def augment_of(config: Config) -> Augment:
    """The augmentation on the devices."""
    return Augment(**{name: getattr(config.augment, name) for name in Augment._fields})


def loss_of(config: Config, total_steps: int, seed: int) -> LossTransform:
    """The loss of one seed, for a training of `total_steps` steps."""
    facts = RunFacts(
        total_steps=total_steps,
        head=config.model.head,
        head_scale=config.model.head_scale,
        mixing=config.train.mixing,
        seed=seed,
        axis_name=AXIS,
    )
    return make_loss(config.loss, facts)
