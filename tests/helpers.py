"""Small, fast training configurations for tests.

Their network is a perceptron: a program with convolutions takes four times as long to trace and to
compile. Tests that are about convolutions take `CONVNET`.
"""

from pathlib import Path

import jax
import pytest

from ltjax import config as configs

# Real data that lie beside some checkouts, and the mark of tests that need them.
SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
CONVNET = {"model__name": "convnet", "model__hidden": (), "model__width": 4}
# The smallest network, as flags.
SMALLEST = ["--config.model.name=mlp", "--config.model.hidden=(8,)"]


def small_config(**overrides):
    """Four epochs of seven steps of a narrow network on the digits.

    Args:
      **overrides: values of configuration keys, with "__" for each dot: `loss__name="ce"`.
    """
    config = configs.default()
    config.cpu_devices = 2
    config.model.name, config.model.hidden = "mlp", (16,)
    config.engine.steps_per_call = 1  # so that a run can be stopped after any step
    config.train.epochs = 4
    config.optimizer.warmup_epochs = 1
    config.evaluation.every_epochs = 2
    config.checkpoint.every_epochs = 2
    config.train.log_every_steps = 7
    for key, value in overrides.items():
        configs.put(config, key.replace("__", "."), value)
    return config


def tiny_config(**overrides):
    """Three epochs of seven steps of the smallest network, each with a checkpoint.

    Args:
      **overrides: see `small_config`.
    """
    settings = {
        "cpu_devices": 1,
        "method": "ce",
        "model__hidden": (8,),
        "train__epochs": 3,
        "evaluation__every_epochs": 3,
        "checkpoint__every_epochs": 1,
    }
    return small_config(**(settings | overrides))


def initialized(network, images, *, seed=0, **options):
    """Variables of a network, by one program: compiling its operations one by one takes longer.

    Args:
      network: a Linen module.
      images: its input.
      seed: of the parameters.
      **options: what else the module takes, such as `train=False`.
    """
    return jax.jit(lambda key: network.init(key, images, **options))(jax.random.key(seed))
