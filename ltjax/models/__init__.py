"""Networks: backbones, heads and the classifier that joins them."""

from ltjax.models.classifier import Classifier, Outputs
from ltjax.models.convnet import ConvNet
from ltjax.models.heads import CosineHead, LinearHead, TauNormHead, WeightScalingHead
from ltjax.models.mlp import MLP
from ltjax.models.registry import (
    BACKBONES,
    HEADS,
    TAKE_FEATURES,
    ModelConfig,
    make_backbone,
    make_head,
    make_model,
    make_whitening,
)
from ltjax.models.resnet import ResNet
from ltjax.models.resnet_cifar import ResNetCifar
from ltjax.models.vit import VisionTransformer

__all__ = [
    "BACKBONES",
    "HEADS",
    "MLP",
    "TAKE_FEATURES",
    "Classifier",
    "ConvNet",
    "CosineHead",
    "LinearHead",
    "ModelConfig",
    "Outputs",
    "ResNet",
    "ResNetCifar",
    "TauNormHead",
    "VisionTransformer",
    "WeightScalingHead",
    "make_backbone",
    "make_head",
    "make_model",
    "make_whitening",
]
