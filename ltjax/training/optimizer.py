"""The optax optimizer and learning-rate schedule that a config names."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from ltjax.config import Config
from ltjax.errors import require


def learning_rate_schedule(
    *,
    name: str,
    learning_rate: float,
    warmup_steps: int,
    total_steps: int,
    warmup_stairs: int = 0,
    milestones: Sequence[int] = (),
    milestone_factor: float = 0.01,
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
        main = optax.schedules.cosine_decay_schedule(learning_rate, rest)
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


def _stairs(learning_rate: float, steps: int, stairs: int) -> optax.Schedule:
    """The rate of a warm-up that rises `stairs` times."""
    require(steps % stairs == 0, "warmup_steps", steps, f"a multiple of {stairs}, warmup_stairs")

    def rate(step: Any) -> Any:
        # In integers: XLA may divide floats by a reciprocal, whose floor is one too small.
        stair = jnp.asarray(step, jnp.int32) // (steps // stairs) + 1
        return learning_rate / stairs * stair.astype(jnp.float32)

    return rate


def decay_mask(params: Any) -> Any:
    """True for kernels, which decay; False for biases and norms."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


# Masks of the parameters that decay, by name; None masks nothing.
DECAYS: dict[str, Callable[[Any], Any] | None] = {"kernels": decay_mask, "all": None}


def head_mask(params: Any) -> Any:
    """True for the parameters of the classifier's head."""
    return {
        name: jax.tree.map(lambda _, n=name: n == "head", part) for name, part in params.items()
    }


# Names that lead to the trained part of the parameters, such as ("head",); None is all.
Trainable = tuple[str, ...] | None

# The part of the parameters that a stage trains; only its state goes into the optimizer's, so a
# stage that takes no steps needs one too.
TRAINED_IN_STAGE: dict[str, Trainable] = {
    "one": None,
    "crt": ("head",),
    "lws": ("head", "scale"),
    "tau_norm": ("head",),
    "ncm": ("head",),
    "posthoc_la": ("head",),
}


def trained_part(config: Config) -> Trainable:
    """What a run trains: on given features, whose whitening is fixed, the head alone.

    Args:
      config: resolved configuration.

    Returns:
      Names that lead to the trained part of the parameters; None for all.
    """
    if config.stage == "one" and config.model.given:
        return ("head",)
    return TRAINED_IN_STAGE[config.stage]


def _by_part(params: Any, trainable: tuple[str, ...], of: Callable[[bool, Any], Any]) -> Any:
    def leaf(path, value):
        names = tuple(entry.key for entry in path[: len(trainable)])
        return of(names == trainable, value)

    return jax.tree_util.tree_map_with_path(leaf, params)


def freeze_untrained(params: Any, trainable: Trainable) -> Any:
    """The same parameters, of which only the trained part has gradients.

    >>> params = {"head": 1.0, "backbone": 2.0}
    >>> f = lambda p: sum(jax.tree.leaves(freeze_untrained(p, ("head",))))
    >>> jax.tree.map(float, jax.grad(f)(params))
    {'backbone': 0.0, 'head': 1.0}
    """
    if trainable is None:
        return params
    return _by_part(params, trainable, lambda on, p: p if on else jax.lax.stop_gradient(p))


def train_part(
    optimizer: optax.GradientTransformation, trainable: Trainable
) -> optax.GradientTransformation:
    """The optimizer on the trained part alone: the rest has no state, decay or update."""
    if trainable is None:
        return optimizer

    def label(params):
        return _by_part(params, trainable, lambda on, _: "trained" if on else "frozen")

    parts = {"trained": optimizer, "frozen": optax.set_to_zero()}
    return optax.multi_transform(parts, label)


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
    return optax.chain(*parts)
