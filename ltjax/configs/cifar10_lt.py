"""CIFAR-10-LT, imbalance factor 100, the field's protocol.

Command:   ltjax --config cifar10_lt --data TFDS_DIR
           (TFDS's cifar10 in array_record files; --config.data.name=cifar10_lt for a set that
           is thinned already)
Time:      40 minutes a seed on two idle CPU cores with native kernels (docs/training.md); not
           measured on a GPU
Accuracy:  published top-1 at imbalance factor 100, ResNet-32: cross entropy 70.4, LDAM-DRW 77.0
           (Cao et al., NeurIPS 2019), balanced softmax 77.5; logit adjustment 77.3 (the README of
           their code, post-hoc) to 80.9 (Menon et al., ICLR 2021), on a far longer schedule; of
           this code: not yet run

Recipe of Cao et al. (NeurIPS 2019), as in https://github.com/kaidic/LDAM-DRW: SGD, momentum 0.9,
200 epochs, batch 128, weight decay 2e-4 of all parameters; rate 0.1, (e + 1) / 5 of it in epochs
e < 5, times 0.01 from epoch 160 and again from epoch 180; kernels of variance 2 / fan_in; crop of 4
padded pixels, flip; pixels normalized by that code's constants, for both CIFAR sets.
"""

from ltjax import config as base


def get_config():
    """The base configuration with the field's recipe, and a method of whitening."""
    config = base.default()
    config.method = "cw_la_b3rs"  # with this ridge, see experiments/choice
    config.whitening.shrinkage = 0.9
    config.data.name = "cifar10"
    config.data.imbalance_factor = 100.0
    config.data.seed = 0  # the subset of the field's papers
    config.data.statistics = "cifar"
    config.model.name = "resnet32_cifar"
    config.model.init = "fan_in"
    config.augment.max_shift = 4
    config.augment.flip = True
    config.train.batch_size = 128
    config.train.epochs = 200
    config.train.log_every_steps = 50
    config.optimizer.weight_decay = 2e-4
    config.optimizer.decay = "all"
    config.optimizer.warmup = "epochs"
    config.optimizer.schedule = "steps"
    config.optimizer.milestones = (160, 180)
    return config
