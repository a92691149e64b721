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
