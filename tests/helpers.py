"""A small, fast configuration of the main job for tests."""

from ltjax import config as configs


def small_config(**overrides):
    """Ten epochs of seven steps of a narrow network; keys with "__" for dots."""
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
