"""Places-LT from the field's list files, ResNet-50, 30 epochs.

Command:   ltjax --config places_lt --data PLACES
           --config.data.path=Places_LT_train.txt --config.data.test_path=Places_LT_test.txt
Time:      for GPUs and TPUs; not measured here. --config.runlocal=True takes about a minute.
Accuracy:  published results (cross entropy 30.2, tau-norm 37.9: Kang et al., ICLR 2020) start
           from a ResNet-152 trained on ImageNet, which this recipe does not; of this code: not
           yet run

Ours in two things: the network is a ResNet-50 that starts from random numbers, and the first stage
has 30 epochs, since the code of Kang et al. has no config of it. The rest is as in
https://github.com/facebookresearch/classifier-balancing (config/Places_LT/cls_crt.yaml and
data/dataloader.py): SGD, momentum 0.9, batch 256, the classifier's rate 0.1, cosine without
warm-up, weight decay 5e-4 of all parameters; random resized crop to 224, flip, color jitter 0.4;
pixels normalized by ImageNet's constants. Their second stage: --config.stage=crt
--config.train.epochs=10 --config.plan.name=class_aware --config.plan.epoch_size=largest_class.
"""

from ltjax import config as base


def get_config():
    """The base configuration with the field's recipe for large images."""
    config = base.default()
    config.data.name = "list"
    config.data.profile = "as_is"
    config.data.image_size = 224
    config.data.statistics = "imagenet"
    config.data.threads = 8
    config.model.name = "resnet50"
    config.model.dtype = "bfloat16"
    config.plan.num_blocks = 10
    config.augment.max_shift = 0
    config.augment.flip = True
    config.augment.crop_area = 0.08
    config.augment.colour_jitter = 0.4
    config.train.batch_size = 256
    config.train.epochs = 30
    config.optimizer.learning_rate = 0.1
    config.optimizer.decay = "all"
    config.optimizer.warmup_epochs = 0
    config.evaluation.batch_size = 256
    return config
