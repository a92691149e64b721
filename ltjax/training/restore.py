"""Reads back the final states of a finished run, without its data."""

import jax
import optax

from ltjax.errors import InputError
from ltjax.training.build import model_of, optimizer_of
from ltjax.training.checkpoint import Checkpoints
from ltjax.training.devices import Mapping
from ltjax.training.multi_seed import unstack
from ltjax.training.recalibration import recalibrates
from ltjax.training.state import TrainState, init_state
from ltjax.training.workdir import FinishedRun


def restore_states(run: FinishedRun, mapping: Mapping) -> list[TrainState]:
    """The final states of a finished run.

    Args:
      run: as `ltjax.training.workdir.read_finished` gives it.
      mapping: the devices to read on.

    Returns:
      The state of each seed, as NumPy arrays.

    Raises:
      InputError: there is no checkpoint, or the newest cannot be read.
    """
    config = run.config
    model = model_of(config, run.num_classes)
    # The rate of the schedule is no part of the state, so any schedule gives the same shapes.
    optimizer = optimizer_of(config, optax.constant_schedule(0.0))
    ema, recalibrated = config.optimizer.ema_decay > 0, recalibrates(config)

    def init(key: jax.Array) -> TrainState:
        shape = run.image_shape
        return init_state(model, optimizer, key, shape, ema=ema, recalibrated=recalibrated)

    keys = jax.random.split(jax.random.key(0), len(config.seeds))
    like = jax.eval_shape(jax.vmap(init), keys)
    checkpoints = Checkpoints(run.path / "checkpoints", keep=config.checkpoint.keep)
    try:
        steps, last = checkpoints.steps(), run.result["train"].get("steps")
        if not steps:
            raise InputError(f"workdir {run.path} holds no checkpoint; train it again")
        if last is not None and last not in steps:
            raise InputError(
                f"workdir {run.path} lacks the checkpoint of its last step, {last}; restore it, or "
                "train it again in another --workdir"
            )
        return unstack(checkpoints.restore(steps[-1], mapping.place(like)).state)
    finally:
        checkpoints.close()
