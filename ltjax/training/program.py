"""The compiled functions of heads on features, kept by what decides about them."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltjax.augment.mixing import make_mixing
from ltjax.config import Config
from ltjax.losses import RunFacts, make_loss
from ltjax.losses.registry import DEFERRED, LossConfig
from ltjax.models import Classifier, ModelConfig, Outputs, make_head
from ltjax.models.mlp import MLP
from ltjax.models.registry import make_whitening
from ltjax.training.devices import Engine, Mapping
from ltjax.training.inputs import AXIS
from ltjax.training.optimizer import learning_rate_schedule, make_optimizer
from ltjax.training.prior import embedded_weight
from ltjax.training.state import TrainState, hasty, init_state
from ltjax.training.step import make_train_step
from ltjax.whitening.options import WhiteningConfig

# Steps of a schedule in units of which the optimizer counts, so that one program serves all.
UNIT = 2**20
# Steps in one dispatch, and how many steps a training has at least to use it: few numbers, so that
# trainings of different lengths share programs.
FUSED = ((16, 320), (4, 80), (1, 0))


class Kind(NamedTuple):
    """What decides about the program of a step; programs are kept by it.

    Attributes:
      hidden: widths of hidden layers.
      model: names the head.
      whitening: of what comes out of hidden layers; without these the coordinates are white.
      loss: options of the loss.
      facts: what the loss must know about the training.
      embedded_weight: BET's weight of the embedded mean, or None.
      mixing: name of the mixing, and its options.
      num_classes: C.
      device: where it runs.
    """

    hidden: tuple[int, ...]
    model: ModelConfig
    whitening: WhiteningConfig
    loss: LossConfig
    facts: RunFacts
    embedded_weight: float | None
    mixing: tuple[str, float, float, float]
    num_classes: int
    device: jax.Device


class Program(NamedTuple):
    """Compiled functions of a kind.

    Attributes:
      mapping: onto its device.
      step: takes the steps of a dispatch, for one head.
      initial: `(seed, features) -> state` of one head.
      loss_state: `(class_counts [C], prior) -> constants` of the loss.
      logits: `(variables, rows [B, D]) -> [B, C]` of one head.
    """

    mapping: Mapping
    step: Callable[..., Any]
    initial: Callable[[int, int], TrainState]
    loss_state: Callable[..., Any]
    logits: Callable[[Any, jax.Array], jax.Array]


def kind_of(
    config: Config,
    hidden: tuple[int, ...],
    num_classes: int,
    total_steps: int,
    device: jax.Device,
) -> Kind:
    """The kind of heads of a resolved configuration."""
    train, loss = config.train, config.loss
    facts = RunFacts(
        total_steps=total_steps if loss.weighting in DEFERRED else 0,
        head=config.model.head,
        head_scale=config.model.head_scale,
        mixing=train.mixing,
        seed=config.seed if loss.name == "equalization" else 0,
        axis_name=AXIS,
    )
    mixing = (train.mixing, train.mixing_alpha, train.remix_kappa, train.remix_tau)
    return Kind(
        hidden,
        config.model,
        config.whitening,
        loss,
        facts,
        embedded_weight(config),
        mixing,
        num_classes,
        device,
    )


@functools.lru_cache(maxsize=64)
def program_of(kind: Kind) -> Program:
    """Builds the functions of a kind; JAX compiles each of them once for every shape."""
    whitening = make_whitening(kind.whitening, axis_name=AXIS) if kind.hidden else None
    model = Classifier(
        MLP(kind.hidden, axis_name=AXIS), make_head(kind.model, kind.num_classes), whitening
    )
    name, alpha, kappa, tau = kind.mixing
    mixing = make_mixing(name, alpha=alpha, remix_kappa=kappa, remix_tau=tau)
    optimizer, loss = _optimizer(), make_loss(kind.loss, kind.facts)
    step = make_train_step(
        model, loss, optimizer, embedded_weight=kind.embedded_weight, mixing=mixing
    )
    # Heads have no convolutions: on CPU too their steps run in a loop.
    mapping = Mapping([kind.device], engine=Engine(True, True, FUSED[0][0]))
    once = hasty(kind.device.platform)

    @functools.partial(jax.jit, static_argnums=1, compiler_options=once)
    def initial(seed: jax.Array, features: int) -> TrainState:
        return init_state(model, optimizer, jax.random.key(seed), (features,))

    @jax.jit
    def logits(variables: Any, rows: jax.Array) -> jax.Array:
        out = model.apply(variables, rows, train=False)
        assert isinstance(out, Outputs)  # a pair only where variables are mutable
        return out.logits

    return Program(
        mapping,
        mapping.train_step(step),
        lambda seed, features: initial(np.uint32(seed), features),
        jax.jit(loss.init, compiler_options=once),
        logits,
    )


def _optimizer() -> optax.GradientTransformation:
    """SGD whose rate, decay and length are numbers in its state, so that heads may differ."""

    def make(rate: Any, weight_decay: Any, steps: Any) -> optax.GradientTransformation:
        unit = learning_rate_schedule(
            name="cosine", learning_rate=1.0, warmup_steps=0, total_steps=UNIT
        )
        return make_optimizer(
            lambda step: rate * unit(jnp.asarray(step, jnp.float32) * (UNIT / steps)),
            name="sgd",
            momentum=0.9,
            nesterov=True,
            weight_decay=weight_decay,
            clip_norm=0.0,
        )

    return optax.inject_hyperparams(make)(rate=1.0, weight_decay=0.0, steps=1.0)
