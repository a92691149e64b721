"""This engine, and the plain jitted step that it is measured against."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ltjax import config as configs
from ltjax.config import Config
from ltjax.losses import batch_loss, loss_inputs
from ltjax.training.build import build
from ltjax.training.devices import Engine, Mapping
from ltjax.training.multi_seed import Seeds
from ltjax.training.state import init_state


def synthetic(size: int, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images, uint8 `[count, size, size, 3]`, and labels of all classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(count, size, size, 3), dtype=np.uint8)
    return images, np.arange(count) % classes


def make_config(model: str, images: np.ndarray, labels: np.ndarray, **overrides: Any) -> Config:
    """A config of plain cross entropy on these images, in a file of its own."""
    config = configs.default()
    path = Path(tempfile.mkdtemp()) / "images.npz"
    few = len(np.unique(labels))
    test = {"test_images": images[:few], "test_labels": labels[:few]}
    np.savez(path, images=images, labels=labels, **test, allow_pickle=False)
    config.method, config.model.name = "ce", model
    config.data.name, config.data.path, config.data.profile = "npz", str(path), "as_is"
    config.augment.max_shift, config.optimizer.learning_rate = 4, 0.01
    for key, value in overrides.items():
        configs.put(config, key.replace("__", "."), value)
    return configs.resolve(config)


class Ours:
    """Training steps of this engine: plan, gather, augmentation and mapped step.

    Args:
      config: resolved.
      devices: to train on.
      engine: of the mapping.
    """

    def __init__(self, config: Config, devices: list[jax.Device], engine: Engine):
        self.block = engine.steps_per_call
        self.seeds = Seeds(build(config), Mapping(devices, engine=engine))
        self.position = 0

    def __call__(self, steps: int) -> None:
        """Takes so many steps of every seed and waits for them."""
        for _ in range(max(1, steps // self.block)):
            self.seeds.step(self.seeds.load(self.position, self.block))
            self.position += self.block
        self.seeds.block()


def plain_step(config: Config) -> Callable[[int], None]:
    """The bare step under `jax.jit` on one device, on images that lie there ready.

    Returns:
      A function that takes so many steps and waits.
    """
    job = build(config)
    layer = job.model.whitening
    layer = None if layer is None else layer.clone(axis_name=None)
    backbone = job.model.backbone.clone(axis_name=None)
    model = job.model.clone(backbone=backbone, whitening=layer)
    loss_state = job.losses[0].init(*map(jnp.asarray, job.classes[0]))
    shape, size = job.data.train.image_shape, config.train.batch_size
    images = jax.random.normal(jax.random.key(1), (size, *shape))
    labels = jnp.asarray(job.data.train.labels[:size], jnp.int32)

    def step(state, images, labels):
        def loss_fn(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            out, updates = model.apply(variables, images, train=True, mutable=["batch_stats"])
            inputs = loss_inputs(out.logits, labels)
            value = batch_loss(job.losses[0], inputs, loss_state, step=state.step, bet=None)
            return value, updates["batch_stats"]

        (value, stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = job.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return state._replace(
            step=state.step + 1, params=params, batch_stats=stats, opt_state=opt_state
        ), value

    state = init_state(model, job.optimizer, jax.random.key(0), shape)
    compiled = jax.jit(step, donate_argnums=0).lower(state, images, labels).compile()
    held = [state]

    def run(steps: int) -> None:
        for _ in range(steps):
            held[0], value = compiled(held[0], images, labels)
        jax.block_until_ready((held[0], value))

    return run
