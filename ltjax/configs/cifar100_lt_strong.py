"""CIFAR-100-LT, imbalance factor 100, with the techniques of the field's best results together.

Command:   ltjax --config cifar100_lt_strong --data TFDS_DIR
           (see cifar100_lt for other sources)
Time:      for GPUs; not measured. A step costs about two and a half of cifar100_lt, mostly for two
           views of every image.
Accuracy:  published top-1 at imbalance factor 100, ResNet-32: BCL 51.9, ProCo 52.8, SURE 57.3.
           The gain of this recipe with its own network has not been measured yet; docs/recipes.md
           has that of its parts with smaller ones.

As cifar10_lt_strong, on the data of cifar100_lt.
"""

from ltjax.configs import cifar10_lt_strong, cifar100_lt


def get_config():
    """The recipe of cifar10_lt_strong on the data of cifar100_lt."""
    config = cifar10_lt_strong.get_config()
    plain = cifar100_lt.get_config()
    config.data = plain.data
    config.whitening = plain.whitening
    config.plan = plain.plan
    return config
