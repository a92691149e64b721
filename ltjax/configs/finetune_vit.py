"""ImageNet-LT by CLIP's ViT-B/16 with AdaptFormer, in 10 epochs: the budget of LIFT.

Command:   ltjax --config finetune_vit --data TFDS_DIR
           (TFDS's imagenet_lt in array_record files; the first use says how the weights are
           fetched; for Places-LT --config.data.name=list --config.data.path=Places_LT_train.txt
           --config.data.test_path=Places_LT_test.txt --config.finetune.adapter_width=8)
Time:      for GPUs and TPUs; not measured here. --config.runlocal=True shrinks the run, and starts
           from random numbers instead of the weights.
Accuracy:  published top-1 of LIFT with this network: ImageNet-LT 77.0, with test-time ensembling
           78.3; Places-LT 51.5, and 52.2 (Shi et al., Long-Tail Learning with Foundation Model,
           ICML 2024, https://arxiv.org/abs/2309.10019, tables 1 and 2); of this code: not yet run

As in https://github.com/shijxcs/LIFT (utils/config.py): 10 epochs, batch 128, SGD with momentum
0.9, rate 0.01, cosine without warm-up, weight decay 5e-4; a cosine classifier of scale 25; logit
adjustment; for C classes an adapter of 2^floor(log2(C / 24)) channels beside the MLP of each block.
Other than there: the head starts from class means, where LIFT starts from CLIP's embeddings of the
class names (give them as a file: --config.model.head_init=TEXT.npy); the adapters take the MLP's
own input, as in the paper of AdaptFormer, where LIFT's have a layer norm and a learned scale; and
prediction is from one crop. Whitening is off; --config.method=cw_la turns it on.
"""

from ltjax import config as base


def get_config():
    """The base configuration with LIFT's budget."""
    config = base.default()
    config.method = "logit_adjustment"
    config.data.name = "imagenet_lt"
    config.data.profile = "as_is"
    config.data.image_size = 224
    config.data.threads = 8
    config.model.name = "clip_vit_b16"
    config.model.weights = "clip_b16"
    config.model.dtype = "bfloat16"
    config.model.head = "cosine"
    config.model.head_scale = 25.0
    config.model.head_init = "class_means"
    config.finetune.train = "adapter"
    config.finetune.adapter_width = 32
    config.finetune.adapter_scale = 1.0
    config.augment.max_shift = 0
    config.augment.flip = True
    config.augment.crop_area = 0.08
    config.train.batch_size = 128
    config.train.epochs = 10
    config.optimizer.learning_rate = 0.01
    config.optimizer.warmup_epochs = 0
    config.evaluation.every_epochs = 1
    config.checkpoint.every_epochs = 1
    return config
