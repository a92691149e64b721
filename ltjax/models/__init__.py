"""Networks: backbones, heads and the classifier that joins them."""

from ltjax.models.classifier import Classifier, Outputs, make_model
from ltjax.models.convnet import ConvNet
from ltjax.models.heads import LinearHead

__all__ = ["Classifier", "ConvNet", "LinearHead", "Outputs", "make_model"]
