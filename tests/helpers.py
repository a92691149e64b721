"""A small, fast training configuration for tests."""

from ltjax import config as configs


def small_config(**overrides):
    """Four epochs of seven steps of a narrow network on the digits.

    Args:
      **overrides: values of configuration keys, with "__" for each dot: `loss__name="ce"`.
    """
    config = configs.default()
    config.cpu_devices = 2
    config.model.width = 8
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
        "model__width": 4,
        "train__epochs": 3,
        "evaluation__every_epochs": 3,
        "checkpoint__every_epochs": 1,
    }
    return small_config(**(settings | overrides))
