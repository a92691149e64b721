"""Places-LT from the field's list files, ResNet-50, 30 epochs.

Command:   python -m ltjax.main --config configs/places_lt.py --config.data.dir=PLACES
           --config.data.path=Places_LT_train.txt --config.data.test_path=Places_LT_test.txt
Time:      for GPUs and TPUs; not measured here. --config.runlocal=True takes about a minute.
Accuracy:  published results (cross entropy 30.2, tau-norm 37.9: Kang et al., ICLR 2020) start
           from a ResNet-152 trained on ImageNet, which this recipe does not; of this code: not
           yet run

SGD, momentum 0.9, batch 256, rate 0.1, cosine, weight decay 5e-4; augmentation as ImageNet-LT.
"""

from ltjax import config as base


def get_config():
    """The base configuration with the field's recipe for large images."""
    config = base.default()
    config.data.name = "list"
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
    config.train.batch_size = 256
    config.train.epochs = 30
    config.optimizer.learning_rate = 0.1
    config.evaluation.batch_size = 256
    return config
