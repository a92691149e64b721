"""The losses that a configuration can name, one line of a dict each, and their options.

To add a loss, write its file (function, transform, `Option` constants), and add a line here and a
field of `LossConfig` for each of its options.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ltjax.errors import InputError, number, one_of, option, options_of, require
from ltjax.losses.bet import EMBEDDED_WEIGHT
from ltjax.losses.combine import MARGIN, ONE_CLASS, LossTransform, chain, identity
from ltjax.losses.contrastive import CONTRAST, CONTRASTIVE, TEMPERATURE
from ltjax.losses.experts import DIVERSITY
from ltjax.losses.focal import FOCAL_GAMMA, focal_transform, sigmoid_focal_transform
from ltjax.losses.influence import (
    INFLUENCE_ALPHA,
    INFLUENCE_START,
    influence_balanced_transform,
)
from ltjax.losses.lade import LADE_ALPHA, LADE_PENALTY, lade_transform
from ltjax.losses.logit_adjustment import (
    TAU,
    VS_GAMMA,
    balanced_softmax_transform,
    logit_adjustment_transform,
    vector_scaling_transform,
)
from ltjax.losses.margins import MAX_MARGIN, ldam_transform
from ltjax.losses.parametric import PACO_ALPHA, PACO_BETA, PACO_GAMMA, PACO_QUEUE
from ltjax.losses.reweighting import (
    BETA,
    WEIGHTED_MEAN,
    class_balanced_transform,
    drw_transform,
    inverse_frequency_transform,
)
from ltjax.losses.smoothing import (
    SMOOTHING_EPSILON,
    SMOOTHING_HEAD,
    SMOOTHING_TAIL,
    label_aware_smoothing_transform,
    label_smoothing_transform,
)
from ltjax.losses.softmax_weights import (
    EQUALIZATION_PROBABILITY,
    EQUALIZATION_THRESHOLD,
    SEESAW_FLOOR,
    equalization_transform,
    seesaw_transform,
)


class RunFacts(NamedTuple):
    """What a loss must know about the rest of a run.

    Attributes:
      total_steps: training steps of the run; deferred re-weighting starts at a share of them.
      head: name of the classifier's head; a margin needs "cosine".
      head_scale: scale of that head.
      mixing: how images are mixed, "none" if they are not; a mixed image has two classes.
      seed: seed of the random draws of `equalization`.
      axis_name: mapped axis over which batches are spread.
    """

    total_steps: int = 0
    head: str = "linear"
    head_scale: float = 1.0
    mixing: str = "none"
    seed: int = 0
    axis_name: str | None = None


Builder = Callable[["LossConfig", RunFacts], LossTransform]

# Transforms of the logits.
LOSSES: dict[str, Builder] = {
    "cross_entropy": lambda c, run: identity(),
    "logit_adjustment": lambda c, run: logit_adjustment_transform(c.tau),
    "balanced_softmax": lambda c, run: balanced_softmax_transform(),
    "vs": lambda c, run: vector_scaling_transform(c.vs_gamma, c.tau),
    "ldam": lambda c, run: ldam_transform(c.max_margin, run.head_scale, scaled=True),
    "lade": lambda c, run: lade_transform(c.lade_alpha, c.lade_penalty, axis_name=run.axis_name),
    "lade_published": lambda c, run: lade_transform(
        c.lade_alpha, c.lade_penalty, published=True, axis_name=run.axis_name
    ),
    "equalization": lambda c, run: equalization_transform(
        c.equalization_threshold, c.equalization_probability, seed=run.seed
    ),
    "seesaw": lambda c, run: seesaw_transform(floor=c.seesaw_floor),
}
# Weights of the examples by class.
WEIGHTINGS: dict[str, Builder] = {
    "none": lambda c, run: identity(),
    "inverse": lambda c, run: inverse_frequency_transform(weighted_mean=c.weighted_mean),
    "class_balanced": lambda c, run: class_balanced_transform(c.beta),
    "drw": lambda c, run: drw_transform(
        round(c.drw_start * run.total_steps), c.beta, weighted_mean=c.weighted_mean
    ),
    "influence_balanced": lambda c, run: influence_balanced_transform(
        round(c.influence_start * run.total_steps), c.influence_alpha
    ),
    "influence_balanced_published": lambda c, run: influence_balanced_transform(
        round(c.influence_start * run.total_steps), c.influence_alpha, published=True
    ),
}
# Those that set in at a share of the training's steps.
DEFERRED = ("drw", "influence_balanced", "influence_balanced_published")
# Transforms of the targets.
SMOOTHINGS: dict[str, Builder] = {
    "none": lambda c, run: identity(),
    "uniform": lambda c, run: label_smoothing_transform(c.smoothing_epsilon),
    "label_aware": lambda c, run: label_aware_smoothing_transform(
        c.smoothing_head, c.smoothing_tail
    ),
    "label_aware_published": lambda c, run: label_aware_smoothing_transform(
        c.smoothing_head, c.smoothing_tail, published=True
    ),
}
# Weights of the examples by how well they are predicted.
MODULATIONS: dict[str, Builder] = {
    "none": lambda c, run: identity(),
    "focal": lambda c, run: focal_transform(c.focal_gamma),
    "sigmoid_focal": lambda c, run: sigmoid_focal_transform(c.focal_gamma),
}


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """What a configuration says about the loss: the section `loss` of its keys."""

    name: str = option("auto", one_of("auto", *LOSSES), "what is done to the logits")
    tau: float = TAU.field()
    vs_gamma: float = VS_GAMMA.field()
    max_margin: float = MAX_MARGIN.field()
    lade_alpha: float = LADE_ALPHA.field()
    lade_penalty: float = LADE_PENALTY.field()
    seesaw_floor: float = SEESAW_FLOOR.field()
    equalization_threshold: float = EQUALIZATION_THRESHOLD.field()
    equalization_probability: float = EQUALIZATION_PROBABILITY.field()
    weighting: str = option("auto", one_of("auto", *WEIGHTINGS), "class weights")
    weighted_mean: bool = WEIGHTED_MEAN.field()
    beta: float = BETA.field()
    drw_start: float = option(
        0.8, number(0, 1), "drw: share of the training steps without class weights"
    )
    influence_start: float = INFLUENCE_START.field()
    influence_alpha: float = INFLUENCE_ALPHA.field()
    modulation: str = option(
        "auto",
        one_of("auto", *MODULATIONS),
        "weights of the examples by how well they are predicted",
    )
    focal_gamma: float = FOCAL_GAMMA.field()
    smoothing: str = option("auto", one_of("auto", *SMOOTHINGS), "label smoothing")
    smoothing_epsilon: float = SMOOTHING_EPSILON.field()
    smoothing_head: float = SMOOTHING_HEAD.field()
    smoothing_tail: float = SMOOTHING_TAIL.field()
    prior: str = option(
        "sampler",
        one_of("sampler", "data", "plan"),
        "class prior of the loss: of the batches (sampler) or of the training set (data); plan is "
        "for older runs, see docs/losses.md",
        older="data",
    )
    embedded_weight: float = EMBEDDED_WEIGHT.field()
    contrastive: float = CONTRASTIVE.field()
    contrast: str = CONTRAST.field()
    temperature: float = TEMPERATURE.field()
    paco_alpha: float = PACO_ALPHA.field()
    paco_beta: float = PACO_BETA.field()
    paco_gamma: float = PACO_GAMMA.field()
    paco_queue: int = PACO_QUEUE.field()
    diversity: float = DIVERSITY.field()


def make_loss(config: LossConfig, run: RunFacts | None = None) -> LossTransform:
    """Builds the loss that a configuration names: logits, then targets, then weights.

    BET's weights are not part of it; see `batch_loss`.

    Args:
      config: the loss section of a configuration, with every "auto" resolved.
      run: what the loss must know about the rest of the run; None takes the defaults of `RunFacts`.

    Returns:
      The chain of transforms.

    Raises:
      InputError: a value out of range, named `loss.KEY`, or parts that do not go together.

    Source: ours.

    >>> loss = make_loss(LossConfig("ldam", weighting="drw", modulation="none", smoothing="none"),
    ...                  RunFacts(total_steps=100, head="cosine", head_scale=16.0))
    >>> loss.roles
    ('margin', 'one class an example', 'class weights')
    """
    facts = run or RunFacts()
    for key, choice in options_of(config).items():
        choice.check(f"loss.{key}", getattr(config, key))
    tables = {
        "name": LOSSES,
        "smoothing": SMOOTHINGS,
        "weighting": WEIGHTINGS,
        "modulation": MODULATIONS,
    }
    builders = [_chosen(key, getattr(config, key), table) for key, table in tables.items()]
    loss = chain(*(build(config, facts) for build in builders))
    _check_parts(config, loss, facts)
    return loss


def _chosen(key: str, name: str, table: Mapping[str, Builder]) -> Builder:
    require(name in table, f"loss.{key}", name, f"one of {', '.join(table)}")
    return table[name]


def _check_parts(config: LossConfig, loss: LossTransform, run: RunFacts) -> None:
    name = config.name
    if loss.each is not None and name != "cross_entropy":
        raise InputError(
            f"loss.name = {name} with loss.modulation = {config.modulation} is meaningless: "
            f"{name} changes a softmax, and there is none; use loss.name = cross_entropy"
        )
    if loss.each is not None and config.contrastive and config.contrast == "paco":
        raise InputError(
            f"loss.contrast = paco with loss.modulation = {config.modulation} is meaningless: it "
            "adds examples to the softmax of the classifier, and there is none; use another loss"
        )
    if MARGIN in loss.roles and run.head != "cosine":
        raise InputError(
            f"loss.name = {name} with model.head = {run.head} is meaningless: its margin is in "
            "units of the cosine; use model.head = cosine, or another loss"
        )
    if ONE_CLASS in loss.roles and run.mixing != "none":
        raise InputError(
            f"loss.name = {name} and loss.modulation = {config.modulation} with train.mixing = "
            f"{run.mixing} is meaningless: the loss needs "
            "one class an example, and a mixed image has two; use train.mixing = none, or another "
            "loss"
        )
