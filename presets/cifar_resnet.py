"""The residual network of 20 layers for CIFAR of He et al. (2016), section 4.2, for presets/cifar10.yaml."""

from torch import Tensor, nn
from torch.nn.functional import pad, relu


class Block(nn.Module):
    """Two convolutions beside an identity, thinned out and filled up with zeros where the widths differ."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.stride, self.more = (1, 0) if width == width_in else (2, width - width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, self.stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(relu(self.norm1(self.conv1(x)))))
        beside = pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))
        return relu(y + beside)


class ResNet(nn.Module):
    """A stem, three stages of equally many blocks, and a linear layer on the mean of what they put out."""

    def __init__(self, count: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        widths = [16, *[16] * count, *[32] * count, *[64] * count]
        self.blocks = nn.Sequential(*map(Block, widths, widths[1:]))
        self.head = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def resnet20(classes: int = 10) -> nn.Module:
    """Of 269,722 weights, which start as PyTorch draws them."""
    return ResNet(3, classes)
