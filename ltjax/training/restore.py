"""Reads back what a run has stored: its configuration and its final states."""

from pathlib import Path
from typing import Any

import jax
import optax

from ltjax import config as configs
from ltjax.config import Config
from ltjax.errors import InputError
from ltjax.training.build import model_of, optimizer_of
from ltjax.training.checkpoint import Checkpoints
from ltjax.training.devices import Mapping
from ltjax.training.multi_seed import unstack
from ltjax.training.state import init_state
from ltjax.training.workdir import read_json


def read_config(workdir: str | Path) -> Config:
    """The configuration that a finished run has stored.

    Raises:
      InputError: no finished run is there.
    """
    path = Path(workdir)
    for name, what in (("config.json", "no workdir of a run"), ("result.json", "not finished")):
        if not (path / name).exists():
            raise InputError(
                f"workdir {path} is {what} (it has no {name}); give the workdir of a finished run"
            )
    return configs.resolve(read_json(path / "config.json"))


def restore_states(workdir: Path, config: Config, num_classes: int, shape: tuple[int, ...]) -> Any:
    """The final states, one per seed, as NumPy arrays.

    Raises:
      InputError: there is no checkpoint that can be read.
    """
    model = model_of(config, num_classes)
    optimizer, ema = optimizer_of(config, optax.constant_schedule(0.0)), config.optimizer.ema_decay
    like = jax.eval_shape(
        jax.vmap(lambda key: init_state(model, optimizer, key, shape, ema=ema > 0)),
        jax.random.split(jax.random.key(0), len(config.seeds)),
    )
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config.checkpoint.keep)
    try:
        if not checkpoints.steps():
            raise InputError(f"workdir {workdir} holds no checkpoint; train it again")
        mapping = Mapping(jax.devices()[:1])
        return unstack(checkpoints.restore(checkpoints.steps()[-1], mapping.place(like)).state)
    finally:
        checkpoints.close()
