"""The loss and the mixing that a config names."""

import dataclasses
from typing import Any, NamedTuple

from ltjax.errors import InputError, number, one_of, option, require
from ltjax.losses.bet import batch_embedded
from ltjax.losses.combine import LossTransform, chain, identity
from ltjax.losses.lade import lade
from ltjax.losses.logit_adjustment import balanced_softmax, ldam, logit_adjustment, vector_scaling
from ltjax.losses.reweighting import class_balanced, drw, focal, weighted
from ltjax.losses.smoothing import label_aware_smoothing, label_smoothing
from ltjax.losses.softmax_weights import equalization, seesaw

LOSSES = (
    "cross_entropy",
    "logit_adjustment",
    "balanced_softmax",
    "vs",
    "ldam",
    "lade",
    "equalization",
    "seesaw",
)
WEIGHTINGS = ("none", "inverse", "class_balanced", "drw")
SMOOTHINGS = ("none", "uniform", "label_aware")
MODULATIONS = ("none", "focal")
ONE_CLASS_LOSSES = ("ldam", "equalization", "seesaw")


class LossSettings(NamedTuple):
    """What a config says of the loss.

    Attributes:
      name: one of `LOSSES`, which edits the logits.
      tau: strength of the shift of `logit_adjustment` and `vs`.
      vs_gamma: exponent of the scale of `vs`.
      max_margin: of `ldam`.
      lade_alpha: weight of the regulariser of `lade`.
      equalization_threshold: rare is a share below `threshold / C`.
      equalization_probability: of leaving a rare class out.
      smoothing: one of `SMOOTHINGS`.
      smoothing_epsilon: of `uniform`.
      smoothing_head: of `label_aware`, the most frequent class.
      smoothing_tail: of `label_aware`, the rarest class.
      weighting: one of `WEIGHTINGS`.
      beta: of `class_balanced` and `drw`.
      drw_start_step: step from which `drw` weighs.
      modulation: one of `MODULATIONS`; `focal` weighs well-predicted examples less.
      focal_gamma: by this exponent.
      embedded_weight: BET's `w`.
      embedded: whether the batches have embedded slots (BET).
      head: the classifier's head, which `ldam` needs normalised.
      head_scale: its scale.
      mixing: one of `MIXINGS`; mixed images have no one class.
      seed: of the draws of `equalization`.
      axis_name: mapped axis over which batches are spread.
    """

    name: str
    tau: float = 1.0
    vs_gamma: float = 0.15
    max_margin: float = 0.5
    lade_alpha: float = 0.1
    equalization_threshold: float = 0.5
    equalization_probability: float = 0.9
    smoothing: str = "none"
    smoothing_epsilon: float = 0.1
    smoothing_head: float = 0.4
    smoothing_tail: float = 0.1
    weighting: str = "none"
    beta: float = 0.9999
    drw_start_step: int = 0
    modulation: str = "none"
    focal_gamma: float = 2.0
    embedded_weight: float = 0.5
    embedded: bool = False
    head: str = "linear"
    head_scale: float = 1.0
    mixing: str = "none"
    seed: int = 0
    axis_name: str | None = None


def make_loss(**settings: Any) -> LossTransform:
    """Builds the loss that a config names: logits, then targets, then weights.

    Args:
      **settings: fields of `LossSettings`.

    Raises:
      InputError: an unknown name, a value out of range, or parts that do not go together.
    """
    s = LossSettings(**settings)
    for key, value, names in (
        ("name", s.name, LOSSES),
        ("smoothing", s.smoothing, SMOOTHINGS),
        ("weighting", s.weighting, WEIGHTINGS),
        ("modulation", s.modulation, MODULATIONS),
    ):
        require(value in names, f"loss.{key}", value, f"one of {', '.join(names)}")
    _check_parts(s.name, s.head, s.mixing)
    parts = [_edit(s), _smoothing(s), _weighting(s)]
    parts.append(focal(s.focal_gamma) if s.modulation == "focal" else identity())
    if s.embedded:
        parts.append(batch_embedded(s.embedded_weight, axis_name=s.axis_name))
    return chain(*parts)


def _edit(s: LossSettings) -> LossTransform:
    match s.name:
        case "logit_adjustment":
            return logit_adjustment(s.tau)
        case "balanced_softmax":
            return balanced_softmax()
        case "vs":
            return vector_scaling(s.vs_gamma, s.tau)
        case "ldam":
            return ldam(s.max_margin, s.head_scale, scaled=True)
        case "lade":
            return lade(s.lade_alpha, axis_name=s.axis_name)
        case "equalization":
            return equalization(
                s.equalization_threshold,
                s.equalization_probability,
                seed=s.seed,
                axis_name=s.axis_name,
            )
        case "seesaw":
            return seesaw()
    return identity()


def _smoothing(s: LossSettings) -> LossTransform:
    if s.smoothing == "uniform":
        return label_smoothing(s.smoothing_epsilon)
    if s.smoothing == "label_aware":
        return label_aware_smoothing(s.smoothing_head, s.smoothing_tail)
    return identity()


def _weighting(s: LossSettings) -> LossTransform:
    if s.weighting == "inverse":
        return weighted()
    if s.weighting == "class_balanced":
        return class_balanced(s.beta)
    if s.weighting == "drw":
        return drw(s.drw_start_step, s.beta)
    return identity()


def _check_parts(name: str, head: str, mixing: str) -> None:
    if name == "ldam" and head != "cosine":
        raise InputError(
            f"loss.name = ldam with model.head = {head} is meaningless: its margin is in units of "
            "the cosine; use model.head = cosine, or another loss"
        )
    if name in ONE_CLASS_LOSSES and mixing != "none":
        raise InputError(
            f"loss.name = {name} with train.mixing = {mixing} is meaningless: the loss needs one "
            "class an example, and a mixed image has two; use train.mixing = none, or another loss"
        )


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """What a configuration says of the loss."""

    name: str = option("auto", one_of("auto", *LOSSES), "what is done to the logits")
    tau: float = option(1.0, number(0), "strength of logit_adjustment, vs and posthoc_la")
    vs_gamma: float = option(0.15, number(0), "vs: exponent of the scale")
    max_margin: float = option(0.5, number(0), "ldam: margin of the rarest class")
    lade_alpha: float = option(0.1, number(0), "lade: weight of the regulariser")
    equalization_threshold: float = option(0.5, number(0), "rare: a share below this / classes")
    equalization_probability: float = option(0.9, number(0, 1), "of leaving a rare class out")
    weighting: str = option("auto", one_of("auto", *WEIGHTINGS), "of examples by class")
    beta: float = option(0.9999, number(0, 0.9999999), "class_balanced and drw")
    drw_start: float = option(0.8, number(0, 1), "drw: share of training before it starts")
    modulation: str = option("auto", one_of("auto", *MODULATIONS), "of examples by certainty")
    focal_gamma: float = option(2.0, number(0), "focal: exponent")
    smoothing: str = option("auto", one_of("auto", *SMOOTHINGS), "of labels")
    smoothing_epsilon: float = option(0.1, number(0, 1), "uniform")
    smoothing_head: float = option(0.4, number(0, 0.99), "label_aware: most frequent class")
    smoothing_tail: float = option(0.1, number(0, 0.99), "label_aware: rarest class")
    prior: str = option(
        "data", one_of("data", "plan"), "class prior: of the training set, or of the plan's draws"
    )
    embedded_weight: float = option(0.5, number(0, 1), "BET: weight of the embedded mean")
