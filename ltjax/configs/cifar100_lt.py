"""CIFAR-100-LT, imbalance factor 100, the field's protocol.

Command:   ltjax --config cifar100_lt --data TFDS_DIR
           (TFDS's cifar100 in array_record files; --config.data.name=cifar100_lt for a set that
           is thinned already)
Time:      about 3 hours a seed on two CPU cores; not measured on a GPU
Accuracy:  published top-1 at imbalance factor 100, ResNet-32: cross entropy 38.3, LDAM-DRW 42.0
           (Cao et al., NeurIPS 2019), logit adjustment 43.9 (Menon et al., ICLR 2021), balanced
           softmax 43.0; of this code: not yet run

The recipe of Cao et al. as in cifar10_lt, on 100 classes, which B3RS puts into ten blocks.
"""

from ltjax.configs import cifar10_lt


def get_config():
    """The field's recipe, as of cifar10_lt, and a method of whitening."""
    config = cifar10_lt.get_config()
    config.method = "cw_la"  # with this ridge, see experiments/choice
    config.whitening.shrinkage = 0.5
    config.data.name = "cifar100"
    config.plan.num_blocks = 10
    return config
