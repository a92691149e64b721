"""Places-LT from the field's list files: ResNet-152 from ImageNet, its last stage and the head.

Command:   ltjax --config places_lt --data PLACES
           --config.data.path=Places_LT_train.txt --config.data.test_path=Places_LT_test.txt
           (the first use says by which command the weights are fetched)
Time:      for GPUs and TPUs; not measured here. --config.runlocal=True shrinks the run, and starts
           from random numbers instead of the weights.
Accuracy:  published top-1, all from this network: cross entropy 30.2, cRT 36.7, LWS 37.6, tau-norm
           37.9 (Kang et al., ICLR 2020), balanced softmax 38.6 and PaCo 41.2 (Cui et al., ICCV
           2021); of this code: not yet run

Rates, batch, decay and images are those of https://github.com/facebookresearch/classifier-balancing
(config/Places_LT/cls_crt.yaml and data/dataloader.py): SGD, momentum 0.9, batch 256, rate 0.01 of
the backbone and 0.1 of the classifier, cosine without warm-up, weight decay 5e-4 of all parameters;
random resized crop to 224, flip, color jitter 0.4; pixels normalized by ImageNet's constants. The
weights are torchvision's first, and the 30 epochs are those of
https://github.com/dvlab-research/Parametric-Contrastive-Learning (GPaCo/LT), where of the kernels
those of the last block alone are trained (--config.finetune.train=last_1) and all batch norms are.
A second stage as of Kang et al.: --config.stage=crt --config.train.epochs=10
--config.plan.name=class_aware --config.plan.epoch_size=largest_class.
"""

from ltjax.configs import imagenet_lt


def get_config():
    """The recipe of imagenet_lt with a pretrained network, of which the last stage is trained."""
    config = imagenet_lt.get_config()
    config.data.name = "list"
    config.model.name = "resnet152"
    config.model.weights = "resnet152_v1"
    config.finetune.train = "last_3"  # the blocks of the last stage
    config.train.batch_size = 256
    config.train.epochs = 30
    config.optimizer.learning_rate = 0.01
    config.optimizer.head_rate = 10.0
    config.evaluation.batch_size = 256
    return config
