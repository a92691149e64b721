"""The optax optimizer and learning-rate schedule that a config names."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from ltjax.config import Config
from ltjax.config.options import OptimizerConfig
from ltjax.errors import require
from ltjax.models.finetune import Path, is_vector, learned, rates


def learning_rate_schedule(
    *,
    name: str,
    learning_rate: float,
    warmup_steps: int,
    total_steps: int,
    warmup_stairs: int = 0,
    milestones: Sequence[int] = (),
    milestone_factor: float = 0.01,
    cycles: int = 1,
) -> optax.Schedule:
    """Linear warm-up, then cosine to 0, constant, or constant with steps down.

    Args:
      name: "cosine", "constant" or "steps".
      learning_rate: peak.
      warmup_steps: length of the warm-up; 0 is none.
      total_steps: length of the training, warm-up included.
      warmup_stairs: 0 lets the rate rise from 0 at every step of the warm-up; n lets it rise n
        times, in equal stairs of `warmup_steps / n` steps, from `learning_rate / n`.
      milestones: of "steps": the steps from which the rate is multiplied once more.
      milestone_factor: of "steps".
      cycles: of "cosine": how often the rate falls to 0, in as many equal parts of the steps after
        the warm-up; it starts at its peak again after each.

    Returns:
      A function of the step.

    Source: Goyal et al. (2017), https://arxiv.org/abs/1706.02677, warm-up; the stairs are those of
    https://github.com/kaidic/LDAM-DRW (Cao et al., 2019), which adjusts the rate once an epoch;
    Loshchilov and Hutter (2017), https://arxiv.org/abs/1608.03983, cosine.
    """
    known = ("cosine", "constant", "steps")
    require(name in known, "optimizer.schedule", name, f"one of {', '.join(known)}")
    rest = max(total_steps - warmup_steps, 1)
    if name == "cosine":
        main = _cosines(learning_rate, rest, cycles)
    elif name == "constant":
        main = optax.schedules.constant_schedule(learning_rate)
    else:
        # Milestones count from the start of the training, optax's schedules from the join.
        scales = {m - warmup_steps: milestone_factor for m in milestones}
        main = optax.schedules.piecewise_constant_schedule(learning_rate, scales)
    if warmup_steps:
        warmup = optax.schedules.linear_schedule(0.0, learning_rate, warmup_steps)
        if warmup_stairs:
            warmup = _stairs(learning_rate, warmup_steps, warmup_stairs)
        main = optax.schedules.join_schedules([warmup, main], [warmup_steps])
    # optax's schedules mix the integer step with floats, which strict promotion refuses.
    return lambda step: main(jnp.asarray(step, jnp.float32))


def _cosines(learning_rate: float, steps: int, cycles: int) -> optax.Schedule:
    """Cosine to 0, several times."""
    period = max(-(-steps // cycles), 1)
    once = optax.schedules.cosine_decay_schedule(learning_rate, period)
    if cycles == 1:
        return once
    # The last step would start another cycle where the steps divide evenly.
    return lambda step: jnp.where(step >= steps, 0.0, once(jnp.asarray(step) % period))


def _stairs(learning_rate: float, steps: int, stairs: int) -> optax.Schedule:
    """The rate of a warm-up that rises `stairs` times."""
    require(steps % stairs == 0, "warmup_steps", steps, f"a multiple of {stairs}, warmup_stairs")

    def rate(step: Any) -> Any:
        # In integers: XLA may divide floats by a reciprocal, whose floor is one too small.
        stair = jnp.asarray(step, jnp.int32) // (steps // stairs) + 1
        return learning_rate / stairs * stair.astype(jnp.float32)

    return rate


def decay_mask(params: Any) -> Any:
    """True for kernels, which decay; False for biases, norms, positions and tokens."""
    return _of_paths(params, lambda path, p: not is_vector(path, p))


# Masks of the parameters that decay, by name; None masks nothing.
DECAYS: dict[str, Callable[[Any], Any] | None] = {"kernels": decay_mask, "all": None}


def head_mask(params: Any) -> Any:
    """True for the parameters of the classifier's head."""
    return _of_paths(params, lambda path, _: path[0] == "head")


def _of_paths(params: Any, of: Callable[[Path, Any], Any]) -> Any:
    """A tree of what a function says of each parameter and of the names that lead to it."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: of(tuple(entry.key for entry in path), leaf), params
    )


# Says which of the parameters of a network are trained, from the names that lead to them; None is
# all.
Trainable = Callable[[Collection[Path]], Collection[Path]] | None

# Names that lead to the part of the parameters that a second stage trains; only its state goes into
# the optimizer's, so a stage that takes no steps needs one too.
TRAINED_IN_STAGE: dict[str, Path] = {
    "crt": ("head",),
    "lws": ("head", "scale"),
    "marc": ("head", "calibration"),
    "max_norm": ("head", "dense"),
    "tau_norm": ("head",),
    "ncm": ("head",),
    "posthoc_la": ("head",),
}


def trained_part(config: Config) -> Trainable:
    """What a run trains: on given features, whose whitening is fixed, the head alone.

    Args:
      config: resolved configuration.

    Returns:
      A function of the names of all parameters; None for all of them.
    """
    if config.stage != "one":
        return _under(TRAINED_IN_STAGE[config.stage])
    if config.model.given:
        return _under(("head",))
    train = config.finetune.train
    return None if train == "all" else partial(learned, train=train)


def features_stay(config: Config) -> bool:
    """Whether a run trains neither backbone nor whitening, so that their statistics fit.

    Args:
      config: resolved configuration.
    """
    return config.stage != "one" or config.model.given or config.finetune.train == "head"


def _under(names: Path) -> Callable[[Collection[Path]], Collection[Path]]:
    return lambda paths: [path for path in paths if path[: len(names)] == names]


def split(params: Any, trainable: Trainable) -> tuple[Any, Any]:
    """The parameters that are trained, and the others.

    Gradients are taken and the optimizer's state is kept of the former alone.

    Args:
      params: of a network, nested dictionaries.
      trainable: what is trained.

    Returns:
      Two trees without common leaves, which `joined` joins.

    >>> parts = split({"head": {"w": 1}, "backbone": {"w": 2}}, _under(("head",)))
    >>> parts
    ({'head': {'w': 1}}, {'backbone': {'w': 2}})
    >>> joined(*parts)
    {'backbone': {'w': 2}, 'head': {'w': 1}}
    """
    if trainable is None:
        return params, {}
    flat = flatten_dict(params)
    chosen = frozenset(trainable(flat))
    parts = (
        {path: p for path, p in flat.items() if (path in chosen) == on} for on in (True, False)
    )
    first, second = map(unflatten_dict, parts)
    return first, second


def joined(first: Any, second: Any) -> Any:
    """The tree with the leaves of two trees; those of the first where both have some."""
    return unflatten_dict(flatten_dict(second) | flatten_dict(first)) if second else first


def ascended(params: Any, grads: Any, rho: float) -> Any:
    """Where sharpness-aware minimization (SAM) takes its gradient.

        w + rho g / |g|

    Args:
      params: `w`.
      grads: `g`, the gradient of the whole batch; parameters with gradient 0 stay.
      rho: distance from `w`, above 0.

    Returns:
      Parameters.

    Source: Foret et al., Sharpness-Aware Minimization (ICLR 2021),
    https://arxiv.org/abs/2010.01412, equation 2 with p = 2.

    >>> ascended({"w": jnp.array([1.0, 1.0])}, {"w": jnp.array([3.0, 4.0])}, 0.5)["w"].tolist()
    [1.2999999523162842, 1.399999976158142]
    """
    scale = rho / jnp.maximum(optax.tree.norm(grads), 1e-12)
    return jax.tree.map(lambda w, g: w + scale.astype(w.dtype) * g, params, grads)


def averaging_of(
    config: OptimizerConfig, steps_per_epoch: int, epochs: int
) -> optax.Schedule | None:
    """What the new parameters weigh in their average, which is evaluated in their place.

    For `ema_decay` it is `1 - ema_decay`. For `swa_epochs = n` the average is that of the
    parameters at the ends of the last n epochs: until the first of these ends the new parameters
    weigh 1, at the k-th end `1 / k`, and between the ends 0.

    Args:
      config: of the optimizer.
      steps_per_epoch: steps of an epoch.
      epochs: of the training.

    Returns:
      A function of the step; None where no average is kept.

    Source: for `swa_epochs`, Izmailov et al., Averaging Weights Leads to Wider Optima and Better
    Generalization (UAI 2018), https://arxiv.org/abs/1803.05407

    >>> rate = averaging_of(OptimizerConfig(swa_epochs=2), steps_per_epoch=3, epochs=4)
    >>> [float(rate(step)) for step in range(12)][6:]
    [1.0, 1.0, 1.0, 0.0, 0.0, 0.5]
    """
    if config.swa_epochs:
        first = max(epochs - config.swa_epochs, 0)

        def rate(step: Any) -> jax.Array:
            done = jnp.asarray(step, jnp.int32) + 1
            end = done % steps_per_epoch == 0
            averaged = jnp.maximum(done // steps_per_epoch - first, 1)
            later = jnp.where(end, 1 / averaged.astype(jnp.float32), 0.0)
            return jnp.where(done <= (first + 1) * steps_per_epoch, 1.0, later)

        return rate
    if config.ema_decay:
        return lambda step: 1 - config.ema_decay
    return None


def make_optimizer(
    schedule: optax.Schedule,
    *,
    name: str,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    decay: str = "kernels",
    clip_norm: float,
    head_rate: float = 1.0,
    layer_decay: float = 1.0,
) -> optax.GradientTransformation:
    """Builds the optimizer.

    Args:
      schedule: learning rate of a step.
      name: "sgd" (weight decay added to the gradient, as the field's recipes) or "adamw"
        (decoupled).
      momentum: of sgd.
      nesterov: of sgd.
      weight_decay: factor of the parameters that is added to their gradients, or, for adamw,
        times the rate, subtracted from them.
      decay: which parameters decay: "kernels", or "all", biases and normalization included.
      clip_norm: largest global norm of the gradient; 0 is off.
      head_rate: learning rate of the parameters under "head", as a multiple of the schedule's.
      layer_decay: factor of the learning rate from one block to the one before it; see
        `ltjax.models.finetune.rates`.
    """
    require(name in ("sgd", "adamw"), "optimizer.name", name, "sgd or adamw")
    require(decay in DECAYS, "optimizer.decay", decay, f"one of {', '.join(DECAYS)}")
    mask = DECAYS[decay]
    parts = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    if name == "sgd":
        parts.append(optax.add_decayed_weights(weight_decay, mask=mask))
        parts.append(optax.sgd(schedule, momentum=momentum, nesterov=nesterov))
    else:
        parts.append(optax.adamw(schedule, weight_decay=weight_decay, mask=mask))
    if head_rate != 1:
        parts.append(optax.masked(optax.scale(head_rate), head_mask))
    if layer_decay != 1:
        parts.append(optax.stateless(partial(_by_layer, layer_decay=layer_decay)))
    return optax.chain(*parts)


def _by_layer(updates: Any, params: Any, *, layer_decay: float) -> Any:
    """Updates times the rates of their layers."""
    flat = flatten_dict(updates)
    rate = rates(flat, layer_decay)
    return unflatten_dict({path: rate[path] * update for path, update in flat.items()})
