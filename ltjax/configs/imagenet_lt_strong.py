"""ImageNet-LT, ResNet-50, with the techniques of the field's best results together.

Command:   ltjax --config imagenet_lt_strong --data TFDS_DIR
           (see imagenet_lt for other sources)
Time:      for GPUs and TPUs; not measured. A step costs about two of imagenet_lt, for two views of
           every image.
Accuracy:  published top-1, ResNet-50: ProCo 57.3, GPaCo 58.5, SHIKE 60.3. The gain of this recipe
           and of its parts has not been measured yet.

Data and pixels are those of imagenet_lt; batch 256, rate 0.1, weight decay 5e-4, 180 epochs,
RandAugment and the contrastive branch are those of ProCo (Du et al., TPAMI 2024,
https://github.com/LeapLabTHU/ProCo), here with a linear classifier on whitened features, and with
both views augmented alike. docs/recipes.md names the key that turns off each part.
"""

from ltjax.configs import imagenet_lt


def get_config():
    """The field's recipe with whitening and logit adjustment, and the parts beside them."""
    config = imagenet_lt.get_config()
    config.model.projection = 1024
    config.augment.rand_ops = 2
    config.augment.rand_magnitude = 10.0
    config.loss.contrastive = 1.0
    config.loss.contrast = "proco"
    config.loss.temperature = 0.07
    config.train.batch_size = 256
    config.train.epochs = 180
    config.optimizer.learning_rate = 0.1
    return config
