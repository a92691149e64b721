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

from ltjax import config as base


def get_config():
    """The base configuration with the field's recipe for large images."""
    config = base.default()
    config.data.name = "list"
    config.data.profile = "as_is"
    config.data.image_size = 224
    config.data.statistics = "inaturalist"
    config.data.threads = 8
    config.model.name = "resnet50"
    config.model.dtype = "bfloat16"
    config.plan.num_blocks = 20
    config.augment.max_shift = 0
    config.augment.flip = True
    config.augment.crop_area = 0.08
    config.train.batch_size = 512
    config.train.epochs = 90
    config.optimizer.learning_rate = 0.2
    config.optimizer.weight_decay = 1e-4
    config.optimizer.decay = "all"
    config.optimizer.warmup_epochs = 0
    config.evaluation.batch_size = 512
    return config
