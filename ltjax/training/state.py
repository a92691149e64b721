"""What training carries from step to step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltjax.models import Classifier
from ltjax.models.adapters import LowRank, merged, with_lora
from ltjax.training.optimizer import Trainable, joined, split


class TrainState(NamedTuple):
    """Step `[]` int32, parameters, batch statistics, optimizer state, averaged parameters.

    `ema` is the exponential moving average of the parameters, or `()` where none is kept.
    `ema_stats` are the batch statistics that belong to it, as `recalibration` last computed them,
    or `()` where there are none of its own. Gradients depend on neither. `contrast` is what a
    contrastive loss carries from step to step, or `()`.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any = ()
    ema_stats: Any = ()
    contrast: Any = ()

    @property
    def variables(self) -> dict[str, Any]:
        """The variables to evaluate with: the averaged parameters where they are kept, merged."""
        return {
            "params": merged(self.ema or self.params),
            "batch_stats": self.ema_stats or self.batch_stats,
        }


def init_state(
    model: Classifier,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    image_shape: tuple[int, ...],
    *,
    ema: bool = False,
    recalibrated: bool = False,
    trainable: Trainable = None,
    lora: LowRank | None = None,
    contrast: Any = (),
) -> TrainState:
    """The state at step 0, a function of the key.

    Args:
      model: network.
      optimizer: optax transformation.
      key: PRNG key.
      image_shape: `(H, W, C)`.
      ema: keep an exponential moving average of the parameters.
      recalibrated: keep batch statistics of its own for it.
      trainable: what the optimizer has a state of; None is all.
      lora: size of the matrices of LoRA, or None.
      contrast: see `ltjax.training.contrast.carried_of`.
    """

    def init(key):
        images = jnp.zeros((2, *image_shape), jnp.float32)
        variables = model.init(key, images, train=False)
        params, stats = variables["params"], variables.get("batch_stats", {})
        if lora is not None:
            params = with_lora(params, lora, jax.random.fold_in(key, 1))
        return TrainState(
            jnp.zeros((), jnp.int32),
            params,
            stats,
            optimizer.init(split(params, trainable)[0]),
            ema=params if ema else (),
            ema_stats=stats if recalibrated else (),
            contrast=contrast,
        )

    # Compiler options are not allowed for a function that is compiled as a part of another.
    inside = isinstance(key, jax.core.Tracer)
    options = None if inside else hasty(jax.default_backend())
    return jax.jit(init, compiler_options=options)(key)


def hasty(platform: str) -> dict[str, Any] | None:
    """Compiler options of what runs once: on CPU a short compilation is worth more than fast code.

    Args:
      platform: that it is compiled for.
    """
    return {"xla_backend_optimization_level": 1} if platform == "cpu" else None


def unstack(stacked: TrainState) -> list[TrainState]:
    """States with a leading axis, of seeds or of heads, as one state each, of NumPy arrays."""
    host = jax.tree.map(np.asarray, stacked)
    return [state_at(host, index) for index in range(len(host.step))]


def state_at(stacked: TrainState, index: int) -> TrainState:
    """One of the states that have a leading axis."""
    one: TrainState = jax.tree.map(lambda leaf: leaf[index], stacked)
    return one


def with_backbone(state: TrainState, backbone: dict[str, Any]) -> TrainState:
    """A state at step 0 with other variables of the backbone.

    Args:
      state: of `init_state`.
      backbone: its `params` and `batch_stats`; adapters that these lack stay as they are.

    Returns:
      The same state otherwise; the averaged parameters start from them, too.
    """

    def replaced(whole: Any, kind: str) -> Any:
        if not whole or "backbone" not in whole:  # a network without batch norm has no statistics
            return whole
        given = jax.tree.map(jnp.asarray, backbone[kind])
        return {**whole, "backbone": joined(given, whole["backbone"])}

    return state._replace(
        params=replaced(state.params, "params"),
        batch_stats=replaced(state.batch_stats, "batch_stats"),
        ema=replaced(state.ema, "params"),
        ema_stats=replaced(state.ema_stats, "batch_stats"),
    )
