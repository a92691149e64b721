"""Reads back the states of a finished run, without its data."""

import jax
import optax

from ltjax.errors import InputError, require
from ltjax.training.build import lora_of, model_of, optimizer_of
from ltjax.training.checkpoint import Checkpoints
from ltjax.training.contrast import carried_of
from ltjax.training.devices import Mapping
from ltjax.training.optimizer import trained_part
from ltjax.training.recalibration import recalibrates
from ltjax.training.state import TrainState, init_state, unstack
from ltjax.training.workdir import FinishedRun

# Which checkpoint of a finished run is used: that of `result.json`, or the best on held-out images.
CHOICES = ("result", "best")


def restore_states(
    run: FinishedRun, mapping: Mapping, *, checkpoint: str = "result"
) -> list[TrainState]:
    """The states of a finished run.

    Args:
      run: as `ltjax.training.workdir.read_finished` gives it.
      mapping: the devices to read on.
      checkpoint: one of `CHOICES`.

    Returns:
      The state of each seed, as NumPy arrays.

    Raises:
      InputError: there is no such checkpoint, or it cannot be read.
    """
    wanted = _step_of(run, checkpoint)
    config = run.config
    model = model_of(config, run.num_classes)
    # The rate of the schedule is no part of the state, so any schedule gives the same shapes.
    optimizer = optimizer_of(config, optax.constant_schedule(0.0))
    ema, recalibrated = config.optimizer.averaged, recalibrates(config)

    def init(key: jax.Array) -> TrainState:
        shape = run.image_shape
        return init_state(
            model,
            optimizer,
            key,
            shape,
            ema=ema,
            recalibrated=recalibrated,
            trainable=trained_part(config),
            lora=lora_of(config),
            contrast=carried_of(config, run.num_classes),
        )

    keys = jax.random.split(jax.random.key(0), len(config.seeds))
    like = jax.eval_shape(jax.vmap(init), keys)
    checkpoints = Checkpoints(run.path / "checkpoints", keep=config.checkpoint.keep)
    try:
        steps = checkpoints.steps()
        if not steps:
            raise InputError(f"workdir {run.path} holds no checkpoint; train it again")
        if wanted is not None and wanted not in steps:
            which = "last" if wanted == run.result["train"].get("steps") else "best"
            raise InputError(
                f"workdir {run.path} lacks the checkpoint of its {which} step, {wanted}; restore "
                "it, or train it again in another --workdir"
            )
        step = steps[-1] if wanted is None else wanted
        return unstack(checkpoints.restore(step, mapping.place(like)).state)
    finally:
        checkpoints.close()


def _step_of(run: FinishedRun, checkpoint: str) -> int | None:
    """The step of a choice; None is the newest, of runs that are older than what tells it."""
    require(checkpoint in CHOICES, "--checkpoint", checkpoint, f"one of {', '.join(CHOICES)}")
    if checkpoint == "best":
        if run.best is None:
            raise InputError(
                f"--checkpoint = best is not allowed with {run.path}: no image was held out to "
                "choose it by; train with config.data.validation_fraction above 0 or with a "
                "validation part, or leave it out"
            )
        return int(run.best["step"])
    train = run.result["train"]
    step: int | None = train.get("kept_step", train.get("steps"))
    return step
