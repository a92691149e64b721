"""Your own images on a CPU: a folder with a folder for every class, by a pretrained network.

Command:   pip install 'ltjax[pretrained]'
           ltjax --config finetune_folder --data IMAGES
           IMAGES/CLASS/*.jpg holds images out for the test; IMAGES/train/CLASS/ and
           IMAGES/test/CLASS/ are taken as they are
Time:      2.5 minutes for 2,000 images on two shared cores, 2.4 minutes of CPU time
Accuracy:  that of your images; 81.3% on such a part of CIFAR-10-LT (factor 100, 300 test images,
           enlarged to 128 pixels). The network itself has 75.1% on ImageNet
           (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite)

EfficientNet-Lite0 from ImageNet, frozen: its features are computed once, and whitening and
classifier are trained on them, which takes seconds. With more time the last blocks can learn too,
on mirrored images: --config.finetune.train=last_2 --config.augment.flip=True. Where a mirrored
image is of another class, leave out the flip. A damaged image is replaced by another of its class,
and named before the training.
"""

from ltjax import config as base


def get_config():
    """The base configuration for photographs and a frozen network."""
    config = base.default()
    config.data.name = "folder"
    config.data.profile = "as_is"
    config.data.test_per_class = 5
    config.data.image_size = 128  # 224 pixels take three times as long
    config.data.skip_corrupt = True  # the lines before the training name each damaged image
    config.model.name = "efficientnet_lite0"
    config.model.weights = "efficientnet_lite0"
    config.finetune.train = "head"
    config.plan.num_blocks = 2
    config.augment.max_shift = 0
    config.whitening.shrinkage = 0.9  # as for other embeddings of more channels than images
    config.train.batch_size = 128
    config.train.epochs = 30
    config.optimizer.learning_rate = 0.03  # 0.3 B / D, as of LongTailClassifier
    config.evaluation.every_epochs = 10
    config.checkpoint.every_epochs = 10
    return config
