"""iNaturalist 2018 from list files, ResNet-50, 90 epochs.

Command:   ltjax --config inaturalist18 --data INATURALIST
           --config.data.path=iNaturalist18_train.txt --config.data.test_path=iNaturalist18_val.txt
Time:      for GPUs and TPUs; not measured here. --config.runlocal=True takes about a minute.
Accuracy:  published top-1, ResNet-50, 90 epochs: cross entropy 61.7, LWS 65.9 (Kang et al., ICLR
           2020, whose LWS adds a second stage of the classifier alone); of this code: not yet run

Recipe of Kang et al., as in https://github.com/facebookresearch/classifier-balancing
(config/iNaturalist18/feat_unifrom.yaml and data/dataloader.py): SGD, momentum 0.9, batch 512, rate
0.2, cosine from the first step, weight decay 1e-4 of all parameters; random resized crop to 224 and
flip, without color jitter; pixels normalized by that code's constants for this data set.
"""

from ltjax.configs import imagenet_lt


def get_config():
    """The recipe of imagenet_lt, with what differs for this data set."""
    config = imagenet_lt.get_config()
    config.data.name = "list"
    config.data.statistics = "inaturalist"
    config.plan.num_blocks = 20
    config.augment.colour_jitter = 0.0
    config.optimizer.weight_decay = 1e-4
    return config
