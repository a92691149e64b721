"""ImageNet-LT, ResNet-50, 90 epochs.

Command:   python -m ltjax.main --config configs/imagenet_lt.py --config.data.dir=TFDS_DIR
           (TFDS's imagenet_lt in array_record files; for the field's list files
           --config.data.name=list --config.data.path=ImageNet_LT_train.txt
           --config.data.test_path=ImageNet_LT_test.txt --config.data.dir=IMAGENET)
Time:      for GPUs and TPUs; not measured here. --config.runlocal=True takes about a minute.
Accuracy:  published top-1, ResNet-50, 90 epochs: cross entropy 41.6, LWS 47.7 (Kang et al., ICLR
           2020), logit adjustment 51.1 (Menon et al., ICLR 2021); of this code: not yet run

Recipe of Kang et al.: SGD, momentum 0.9, batch 512, rate 0.2, cosine, weight decay 5e-4; random
resized crop to 224, flip, color jitter 0.4.
"""

from ltjax import config as base


def get_config():
    """The base configuration with the field's recipe for large images."""
    config = base.default()
    config.data.name = "imagenet_lt"
    config.data.profile = "as_is"
    config.data.image_size = 224
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
    config.evaluation.batch_size = 512
    return config
