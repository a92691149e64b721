"""ImageNet-LT, ResNet-50, 90 epochs.

Command:   ltjax --config imagenet_lt --data TFDS_DIR
           (TFDS's imagenet_lt in array_record files; for the field's list files
           --config.data.name=list --config.data.path=ImageNet_LT_train.txt
           --config.data.test_path=ImageNet_LT_test.txt --data IMAGENET)
Time:      for GPUs and TPUs; not measured here. --config.runlocal=True takes about a minute.
Accuracy:  published top-1 of Kang et al. (ICLR 2020), 90 epochs by this recipe: ResNet-50, cross
           entropy 41.6, LWS 47.7; ResNeXt-50 (--config.model.name=resnext50_32x4d), cross
           entropy 44.4, cRT 49.6, tau-norm 49.4, LWS 49.9, where cRT and LWS add a second stage of
           the classifier alone. By a protocol of their own, ResNet-50: logit adjustment 51.1 (Menon
           et al., ICLR 2021). Of this code: not yet run

Recipe of Kang et al., as in https://github.com/facebookresearch/classifier-balancing
(config/ImageNet_LT/feat_uniform.yaml and data/dataloader.py): SGD, momentum 0.9, batch 512, rate
0.2, cosine without warm-up, weight decay 5e-4 of all parameters; random resized crop to 224, flip,
color jitter 0.4; pixels normalized by ImageNet's constants. Their second stage:
--config.stage=crt --config.train.epochs=10 --config.plan.name=class_aware
--config.plan.epoch_size=largest_class.
"""

from ltjax import config as base


def get_config():
    """The base configuration with the field's recipe for large images."""
    config = base.default()
    config.method = "cw_la"  # that of cifar100_lt: experiments/choice has no run of this set
    config.whitening.shrinkage = 0.5
    config.data.name = "imagenet_lt"
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
    config.train.batch_size = 512
    config.train.epochs = 90
    config.optimizer.learning_rate = 0.2
    config.optimizer.decay = "all"
    config.optimizer.warmup_epochs = 0
    config.evaluation.batch_size = 512
    return config
