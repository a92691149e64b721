"""Stage two of decoupled training: only the head, on a network that stage one trained.

    crt         a fresh head, trained on class-balanced batches
    lws         stage one's head with a learned scale per class, trained on class-balanced batches
    marc        stage one's head with a learned scale and margin per class, trained with weights
    max_norm    stage one's head, trained on within a ball of every class, with weights
    tau_norm    stage one's head with weights w_c / |w_c|^tau
    ncm         the cosine to each class's mean feature
    posthoc_la  stage one's head with biases b_c - tau log pi_c, pi of stage one's batches

All of them go through the one training loop, with its checkpoints, evaluation and report. The
backbone, the whitening and their statistics stay as stage one left them. An epoch of stage two
has as many steps as one of stage one, `ceil(N / batch_size)`, unless `plan.epoch_size` makes it
that of Kang et al.; the last three methods compute their head and take no steps.

Source: Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition (ICLR
2020), https://arxiv.org/abs/1910.09217; marc: see `MarginCalibrationHead`; max_norm:
see `ltjax.models.max_norm`; posthoc_la: Menon et al., Long-tail learning via logit adjustment (ICLR
2021), https://arxiv.org/abs/2007.07314.
"""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import config as configs
from ltjax.config import Config
from ltjax.data.sources import Source
from ltjax.errors import InputError
from ltjax.evaluation.metrics import summarize
from ltjax.losses import adjusted_logits
from ltjax.models import make_head
from ltjax.models.max_norm import radius_of
from ltjax.training.build import samplers_of
from ltjax.training.finetune import means_of
from ltjax.training.multi_seed import Seeds
from ltjax.training.prior import final_prior
from ltjax.training.restore import restore_states
from ltjax.training.state import TrainState
from ltjax.training.workdir import FinishedRun, read_finished

TAUS = np.arange(0.0, 5.01, 0.05)
NEEDS_LINEAR = ("lws", "marc", "max_norm", "tau_norm", "posthoc_la")
# What both stages must agree on: these keys make the data and the features.
SHARED = ("seeds", "data.", "model.", "finetune.", "whitening.")
OWN = ("model.head", "model.head_scale", "model.head_init", "model.experts")


def read_stage_one(config: Config) -> FinishedRun:
    """Finds stage one and checks that stage two can build on it.

    Args:
      config: resolved configuration of stage two.

    Raises:
      InputError: stage one is absent, not finished, or of other data or another model.
    """
    first = read_finished(config.init_from, name="config.init_from =", what="stage one")
    path, flat, mine = first.path, first.config.flat(), config.flat()
    if first.config.stage != "one":
        raise InputError(f"config.init_from = {path} is itself a stage two; give its stage one")
    shared = [k for k in mine if k.startswith(SHARED) and k not in OWN]
    changed = configs.differences({k: mine[k] for k in shared}, {k: flat[k] for k in shared})
    if changed:
        raise InputError(
            f"config.init_from = {path} was trained with other settings (there -> here: "
            f"{'; '.join(changed)}); set these keys as there"
        )
    if config.stage in NEEDS_LINEAR and first.config.model.head != "linear":
        raise InputError(
            f"config.stage = {config.stage} needs a linear head, but stage one in {path} has "
            f"model.head = {first.config.model.head}; use crt or ncm"
        )
    return first


def check_held_out(config: Config, validation: Source | None) -> None:
    """Refuses to choose tau without images to choose it on.

    Args:
      config: resolved configuration of a run of either stage.
      validation: held-out images of the run, or None.

    Raises:
      InputError: the stage is tau_norm, and there are neither a given tau nor held-out images.
    """
    if config.stage == "tau_norm" and config.decoupled.tau is None and validation is None:
        raise InputError(
            "config.decoupled.tau = None is not allowed without held-out images; set it, or "
            "train both stages with a validation part or config.data.validation_fraction > 0 to "
            "choose tau on those"
        )


def begin(
    first: FinishedRun, config: Config, seeds: Seeds
) -> tuple[list[TrainState], dict[str, Any]]:
    """The states that stage two starts from: stage one's networks under their own heads.

    Args:
      first: stage one.
      config: resolved configuration of stage two.
      seeds: of stage two, with their initial states.

    Returns:
      A state for each seed, and what `result.json` tells of them (JSON).

    Raises:
      InputError: the training images have changed, or stage one cannot be read.
    """
    if first.dataset["fingerprint"]["train"] != seeds.job.data.train.fingerprint():
        raise InputError(f"config.init_from = {first.path}: the training images have changed")
    states = list(restore_states(first, seeds.mapping))
    priors = _priors(first.config, config, seeds.job.data.train, int(states[0].step))
    begun = [
        _begin_seed(first.config, trained, seeds.state_of(index), priors[index], config, seeds)
        for index, trained in enumerate(states)
    ]
    started, found = zip(*begun, strict=True)
    facts: dict[str, Any] = {"init_from": config.init_from, "first_method": first.config.method}
    facts |= found[0] if len(found) == 1 else {"per_seed": list(found)}
    return list(started), facts


class Head(NamedTuple):
    """Parameters of a head, and what `result.json` tells of how they were found."""

    params: dict[str, Any]
    facts: dict[str, Any]


class Start(NamedTuple):
    """What a head is made from.

    Attributes:
      dense: kernel `[D, C]` and bias `[C]` of stage one's linear head; None where it has none.
      fresh: parameters of a new head.
      state: stage one's network, whose features are the head's inputs.
      prior: the class distribution that stage one was trained on, as counts or shares `[C]`.
      config: resolved configuration of stage two.
      seeds: gives outputs of a state on images.
    """

    dense: dict[str, Any] | None
    fresh: dict[str, Any]
    state: TrainState
    prior: np.ndarray
    config: Config
    seeds: Seeds

    @property
    def linear(self) -> dict[str, Any]:
        """The linear head of stage one, which `read_stage_one` has made sure of."""
        assert self.dense is not None
        return self.dense


def _priors(first: Config, second: Config, train: Source, steps: int) -> list[np.ndarray]:
    """What each seed of stage one was trained on, or what stage two is told to take for it."""
    counts = train.class_counts
    if second.loss.prior != "sampler":
        return [counts] * len(first.seeds)
    return [final_prior(first, counts, sampler, steps) for sampler in samplers_of(first, train)]


def _begin_seed(
    first: Config,
    trained: TrainState,
    own: TrainState,
    prior: np.ndarray,
    config: Config,
    seeds: Seeds,
) -> tuple[TrainState, dict[str, Any]]:
    """One seed's state, and what there is to tell of it."""
    # The head's inputs need only the backbone and the whitening, and no projector.
    learned = {part: trained.variables["params"][part] for part in own.params}
    fresh = own.params["head"]
    stats = trained.variables["batch_stats"]
    state = own._replace(params={**learned, "head": fresh}, batch_stats=stats, ema=())
    start = Start(_linear_of(first, learned["head"]), fresh, state, prior, config, seeds)
    head = HEAD_OF_STAGE[config.stage](start)
    params = {**learned, "head": head.params}
    # A copy, as a step gives the buffers of both away.
    average = jax.tree.map(jnp.copy, params) if own.ema else ()
    return state._replace(params=params, ema=average), head.facts


def _linear_of(first: Config, head: dict[str, Any]) -> dict[str, Any] | None:
    """Stage one's linear head; several of them as the one that they are on average."""
    if first.model.experts == 1 or first.model.head != "linear":
        return head.get("dense")
    bias: jax.Array = head["heads_0"]["dense"]["bias"]
    kernel, bias = make_head(first.model, len(bias)).as_dense(head)
    return {"kernel": kernel, "bias": bias}


def _retrained(start: Start) -> Head:
    return Head(start.fresh, {})


def _scaled(start: Start) -> Head:
    return Head({"dense": start.linear, "scale": jnp.ones_like(start.linear["bias"])}, {})


def _calibrated(start: Start) -> Head:
    return Head({**start.fresh, "dense": start.linear}, {})


def _bounded(start: Start) -> Head:
    radius = radius_of(start.linear["kernel"], start.config.decoupled.max_norm)
    return Head({"dense": start.linear, "radius": radius}, {"radius": float(radius)})


def _tau_normalized(start: Start) -> Head:
    tau, tried = choose_tau(start)
    head = {"kernel": start.linear["kernel"], "tau": jnp.asarray(tau, jnp.float32)}
    return Head(head, {"tau": tau, **tried})


def _nearest_mean(start: Start) -> Head:
    return Head({"kernel": jnp.asarray(class_means(start.seeds, start.state).T)}, {})


def _logit_adjusted(start: Start) -> Head:
    """Shifting the bias of a linear head shifts its logits."""
    tau, prior = start.config.loss.tau, jnp.asarray(start.prior)
    bias = adjusted_logits(jnp.asarray(start.linear["bias"]), prior, tau)
    return Head({"dense": {**start.linear, "bias": bias}}, {"tau": tau})


HEAD_OF_STAGE: dict[str, Callable[[Start], Head]] = {
    "crt": _retrained,
    "lws": _scaled,
    "marc": _calibrated,
    "max_norm": _bounded,
    "tau_norm": _tau_normalized,
    "ncm": _nearest_mean,
    "posthoc_la": _logit_adjusted,
}


def class_means(seeds: Seeds, state: TrainState) -> np.ndarray:
    """Mean of the head's inputs over each class's training images.

    Args:
      seeds: gives outputs of a state on images.
      state: the network.

    Returns:
      float32 `[C, D]`.

    Raises:
      InputError: a class has no training image.
    """
    train = seeds.job.data.train
    inputs = seeds.outputs(train, seeds.mapping.replicate(state)).whitened
    return means_of(inputs, train, instead="another config.stage")


def choose_tau(start: Start) -> tuple[float, dict[str, Any]]:
    """The tau of the config, or the best on held-out training images, never on test images.

    Those from 0 to 5 in steps of 0.05 are tried; Kang et al. try 0 to 2 in steps of 0.1, and on
    small sets the best may lie beyond.

    Returns:
      tau, and the balanced accuracy of every tau tried.
    """
    seeds, fixed = start.seeds, start.config.decoupled.tau
    if fixed is not None:
        return float(fixed), {}
    held = seeds.job.data.validation
    assert held is not None  # see `check_held_out`
    features = seeds.outputs(held, seeds.mapping.replicate(start.state)).whitened
    tau, tried = best_tau(features, np.asarray(start.linear["kernel"]), held)
    return tau, {"held_out": len(held), "held_out_balanced_accuracy": tried}


def best_tau(
    features: np.ndarray, kernel: np.ndarray, held: Source
) -> tuple[float, dict[str, float]]:
    """The tau of the highest balanced accuracy; of several that are equal the middle one (ours).

    Args:
      features: of the held-out images, `[N, D]`.
      kernel: of a linear head, `[D, C]`.
      held: these images.

    Returns:
      tau, and the balanced accuracy of every tau tried. Where the largest one is among the best, a
      warning says so.
    """
    norms = np.maximum(np.linalg.norm(kernel, axis=0), 1e-12)
    predictions = [np.argmax(features @ (kernel / norms**tau), axis=1) for tau in TAUS]
    balanced = np.array(
        [summarize(held.labels, p, held.class_counts)["balanced_accuracy"] for p in predictions]
    )
    best = np.flatnonzero(balanced == balanced.max())
    if best[-1] == len(TAUS) - 1:
        warnings.warn(
            f"the largest tau tried, {TAUS[-1]:g}, is among the best on the held-out images; a "
            "larger one, set by config.decoupled.tau, may be better",
            stacklevel=2,
        )
    tau = round(float(TAUS[best[len(best) // 2]]), 2)
    return tau, {f"{t:.2f}": round(float(b), 4) for t, b in zip(TAUS, balanced, strict=True)}
