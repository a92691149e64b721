"""Networks: backbones, heads and the classifier that joins them."""

from ltjax.models.classifier import BACKBONES, Classifier, Outputs, make_backbone, make_model
from ltjax.models.convnet import ConvNet
from ltjax.models.heads import (
    HEADS,
    CosineHead,
    LinearHead,
    TauNormHead,
    WeightScalingHead,
    make_head,
)
from ltjax.models.resnet import ResNet
from ltjax.models.resnet_cifar import ResNetCifar

__all__ = [
    "BACKBONES",
    "HEADS",
    "Classifier",
    "ConvNet",
    "CosineHead",
    "LinearHead",
    "Outputs",
    "ResNet",
    "ResNetCifar",
    "TauNormHead",
    "WeightScalingHead",
    "make_backbone",
    "make_head",
    "make_model",
]
