"""Handwritten digits of scikit-learn, thinned to a long tail; needs no network.

Command:   ltjax --config digits_lt
Time:      see README.md
Accuracy:  see experiments/ablation/README.md
"""

from ltjax import config as base


def get_config():
    """The base configuration is the digits' own; a run takes seconds, so few checkpoints do."""
    config = base.default()
    config.checkpoint.every_epochs = 50
    return config
