"""Your own images: a folder with a folder for every class.

Command:   ltjax --config folder --data IMAGES
           IMAGES/CLASS/*.jpg holds images out for the test; IMAGES/train/CLASS/ and
           IMAGES/test/CLASS/ are taken as they are; IMAGES/validation/CLASS/ is for choosing
Time:      on two CPU cores about seven minutes per 1,000 images (100 epochs at 64 pixels);
           --config.runlocal=True shows that all of it works
Accuracy:  that of your images

A small ResNet on 64 pixels, where a CPU is enough. For photographs and a GPU:
--config.model.name=resnet50 --config.data.image_size=224 --config.augment.crop_area=0.08

Images are not mirrored, which would be wrong for text, road signs or left and right hands. Where
a mirrored image is of the same class: --config.augment.flip=True. A damaged image is replaced by
another of its class, and named before the training.
"""

from ltjax import config as base


def get_config():
    """The base configuration for photographs of any size."""
    config = base.default()
    config.data.name = "folder"
    config.data.profile = "as_is"
    config.data.test_per_class = 5
    config.data.image_size = 64
    config.model.name = "resnet8_cifar"
    config.plan.num_blocks = 2
    config.augment.max_shift = 4
    config.data.skip_corrupt = True  # the lines before the training name each damaged image
    config.optimizer.learning_rate = 0.05
    return config
