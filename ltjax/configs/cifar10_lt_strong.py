"""CIFAR-10-LT, imbalance factor 100, with the techniques of the field's best results together.

Command:   ltjax --config cifar10_lt_strong --data TFDS_DIR
           (see cifar10_lt for other sources)
Time:      for GPUs; not measured. A step costs about two and a half of cifar10_lt, mostly for two
           views of every image.
Accuracy:  published top-1 at imbalance factor 100, ResNet-32: BCL 84.3, ProCo 85.9, SURE 86.9.
           The gain of this recipe with its own network has not been measured yet; docs/recipes.md
           has that of its parts with smaller ones.

Network, data and whitening are those of cifar10_lt; batch 256, rate 0.3, 400 epochs, AutoAugment
and the contrastive branch are those of ProCo (Du et al., TPAMI 2024,
https://github.com/LeapLabTHU/ProCo), here with a cosine of the rate, without Cutout, and with both
views augmented alike; weight decay 5e-4 is that of PaCo (Cui et al., ICCV 2021,
https://github.com/dvlab-research/Parametric-Contrastive-Learning). docs/recipes.md names the key
that turns off each part, and what was left out.
"""

from ltjax.configs import cifar10_lt


def get_config():
    """The field's recipe with whitening and logit adjustment, and the parts beside them."""
    config = cifar10_lt.get_config()
    config.method = "cw_la"
    config.augment.policy = "autoaugment_cifar"
    config.loss.contrastive = 1.0
    config.loss.contrast = "proco"
    config.train.batch_size = 256
    config.train.epochs = 400
    config.optimizer.learning_rate = 0.3
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule = "cosine"
    return config
